/*
 * value_parse: what the parsers of single types share; only for value*.c and checks of lists.
 */
#pragma once

#include "core/conf/value.h"

struct value_parse {
    const struct directive *row;
    struct slice rest;
    struct arena *arena;
    struct value value;
    char *why;
};

/* Writes the reason of a refusal and returns E_SYNTAX. */
int value_refuse(struct value_parse *parse, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The one word that the value consists of. 0, or refused. */
int value_only_word(struct value_parse *parse, struct slice *ret_word);
/* As many words as the row allows, at most max. 0, or refused. */
int value_words(struct value_parse *parse, struct slice *words, uint32_t max, uint32_t *ret_count);
/* The whole value as a list without outer quotes. 0, or refused. */
int value_list_text(struct value_parse *parse, struct slice *ret_list);

/* One limit in a value that holds more than it. 0, or refused. */
int value_rate(struct value_parse *parse, struct slice text, bool volume);
/* "burst=K", for the rate that was read before. */
int value_burst(struct value_parse *parse, struct slice text);
int value_count(struct value_parse *parse, struct slice text);

int value_refuse_quote(struct value_parse *parse);
const char *value_copy_text(struct value_parse *parse, struct slice text);
/* The position of word in "a|b|c", or -1. */
int value_find_choice(const char *choices, struct slice word);
/* 1 to 65535 */
bool value_read_port(struct slice text, uint16_t *ret_port);
/* Octets that host names consist of; underscores occur in practice. */
bool value_is_host_name(struct slice text);

typedef int value_parse_fn(struct value_parse *parse);

value_parse_fn value_parse_boolean;
value_parse_fn value_parse_time;
value_parse_fn value_parse_time_list;
value_parse_fn value_parse_size;
value_parse_fn value_parse_rate;
value_parse_fn value_parse_volume_rate;
value_parse_fn value_parse_count;
value_parse_fn value_parse_per_hour;
value_parse_fn value_parse_string;
value_parse_fn value_parse_name;
value_parse_fn value_parse_name_list;
value_parse_fn value_parse_text;
value_parse_fn value_parse_words;
value_parse_fn value_parse_path;
value_parse_fn value_parse_address;
value_parse_fn value_parse_address_list;
value_parse_fn value_parse_enum;
value_parse_fn value_parse_enum_list;
value_parse_fn value_parse_host;
value_parse_fn value_parse_domain_list;
value_parse_fn value_parse_ip_port;
value_parse_fn value_parse_listener;
value_parse_fn value_parse_source_host;
value_parse_fn value_parse_cidr_access;
value_parse_fn value_parse_cidr_count;
value_parse_fn value_parse_cidr_rate;
value_parse_fn value_parse_cidr_volume_rate;
value_parse_fn value_parse_cpu_list;
value_parse_fn value_parse_route_list;
value_parse_fn value_parse_no_yes_time;
value_parse_fn value_parse_macro;
