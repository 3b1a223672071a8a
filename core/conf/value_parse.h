/*
 * value_parse: what the parsers of single types share; only for value*.c.
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

int value_rate(struct value_parse *parse, struct slice text, bool volume);
int value_count(struct value_parse *parse, struct slice text);

int value_parse_listener(struct value_parse *parse);
int value_parse_source_host(struct value_parse *parse);
int value_parse_cidr_count(struct value_parse *parse);
int value_parse_cidr_rate(struct value_parse *parse);
int value_parse_cidr_volume_rate(struct value_parse *parse);
int value_parse_ip_port(struct value_parse *parse);
int value_parse_host(struct value_parse *parse);
int value_parse_cpu_list(struct value_parse *parse);
int value_parse_route_list(struct value_parse *parse);

/* "%.*s" of a slice that comes from a file: cut when it is long. */
#define VALUE_SHOW(slice) (int)((slice).len > 60 ? 60 : (slice).len), (const char *)(slice).data
/* Octets that host names consist of; underscores occur in practice. */
bool value_is_host_name(struct slice text);
