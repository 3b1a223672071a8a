/*
 * conf: an immutable snapshot of the configuration, in PowerMTA's language.
 *
 * conf_load parses a file (with its includes) through the directive table (directives.h), checks
 * every value against type, unit and range, and builds one snapshot; or it reports every error
 * with file and line and builds nothing. Keywords of the table that have no effect yet load with
 * a warning that says so, at their first occurrence; unknown keywords are errors. A snapshot is
 * never altered; any thread may read it until its last holder drops it. Objects that outlive a turn
 * keep ids (`id`, never reused within a process), not pointers.
 *
 * Files are read with plain system calls: loading happens at start-up, on reload and in the
 * command line tool, never in a turn. Units: milliseconds, bytes, counts, as the names say.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/slice.h"
#include "core/base/zone.h"
#include "core/conf/certificate.h"
#include "core/conf/dkim.h"
#include "core/conf/files.h"
#include "core/conf/reply_rule.h"

#include <stdio.h>

struct conf;

#define CONF_UNLIMITED UINT64_MAX
#define CONF_NONE      UINT32_MAX /* "no such vmta", "no such pool" */

/* ---- Loading ------------------------------------------------------------------------------- */

enum conf_severity {
    CONF_WARNING,
    CONF_ERROR,
    CONF_NOTE, /* nothing is wrong; with lint alone */
};

/* One finding; the strings live as long as the callback. */
typedef void conf_report_fn(void *context, enum conf_severity severity, const char *file,
                            unsigned line, const char *text);

/* A keyword of a queue that holds until somebody loads without it; the last layer of the merge. */
struct conf_override {
    const char *domain; /* lower case, or "*" */
    const char *vmta;   /* or "*" */
    const char *keyword;
    const char *value;  /* "" = the default */
    const char *origin; /* stands for file and line where the value is told */
    bool is_new;        /* what is wrong with it is an error, else it is passed by */
};

struct conf_load_options {
    bool syntax_only;         /* named files and addresses need not exist on this machine */
    bool lint;                /* warn of what is right by the letter and hardly meant so */
    bool no_includes;         /* `include` is an error: nothing but the given text is read */
    struct conf_files *files; /* what is read is added; what is there is not read again */
    bool files_only;          /* no file is read that is not there */
    bool is_pack;             /* the shipped pack itself, which is read once and kept for ever */
    const struct conf_override *overrides; /* of several for one keyword the last one counts */
    uint32_t override_count;
    const struct conf_key_ops *key_ops; /* NULL: keys are not read; else it outlives the snapshot */
    const struct conf_tls_ops *tls_ops; /* likewise certificates */
};

/*
 * 0 and *ret_conf (one reference held by the caller), or E_SYNTAX after at least one CONF_ERROR
 * was reported, or -errno when path itself cannot be read (also reported).
 */
int conf_load(const char *path, const struct conf_load_options *options, conf_report_fn *report,
              void *context, struct conf **ret_conf);
/* The same from text in memory; name stands for the file in reports. For tests and the simulator.*/
int conf_load_text(const char *name, const char *text, const struct conf_load_options *options,
                   conf_report_fn *report, void *context, struct conf **ret_conf);
/* Reference counting is atomic; the last drop frees everything. */
struct conf *conf_ref(struct conf *conf);
void conf_unref(struct conf *conf);
/* Snapshots of this process that are not freed yet. */
uint32_t conf_live_count(void);
/*
 * Before `next` is shared: what only a restart can change is taken over from the running snapshot,
 * so that a snapshot never says what is not so. A warning names each that differs; file: as in
 * conf_load.
 */
void conf_keep_running(struct conf *next, const struct conf *running, const char *file,
                       conf_report_fn *report, void *context);

/* ---- Global settings ----------------------------------------------------------------------- */

/* How TLS is spoken with injectors. */
struct conf_tls_in {
    const struct conf_certificate *certificate; /* NULL = not at all */
    const struct conf_authorities *authorities; /* of clients' certificates; NULL = no matter */
    const char *ciphers;                        /* NULL = the library's */
    bool allows[4];                             /* by the order of enum conf_tls_version */
    bool is_immediate;                          /* a handshake comes first */
};

struct conf_listener {
    struct ipaddr_port at;
    const char *source_name; /* named source, or NULL */
    bool awaits_slot;        /* who finds no place waits for one; a reload changes it, and TLS */
    struct conf_tls_in tls;
};

/* Where connections go first that are to come from an address of the proxy's. */
struct conf_proxy {
    struct ipaddr local; /* they are bound to it here; all zeros = the system chooses */
    struct ipaddr_port server;
    uint8_t version; /* of the PROXY protocol, 1 or 2 */
};

struct conf_source_address {
    struct ipaddr ip;               /* that receivers see */
    const struct conf_proxy *proxy; /* NULL = it is this machine's; lives as long as the snapshot */
    uint32_t rank;                  /* one is used while no lower one can be */
    const char *helo; /* belongs to the address; never NULL; lives as long as the process */
};

struct conf_spool {
    const char *path;
    uint64_t min_free_bytes;
    uint64_t segment_bytes; /* segment-size, ours; the first section's holds for all */
    uint64_t priority;
    bool deliver_only;
};

#define CONF_SPOOLS_MAX 7u

/* <dns>: domains that are looked up ahead of their mail. */
struct conf_precache {
    const char *path; /* NULL = none */
    uint64_t refresh_ms;
    uint64_t domain_count_max;
    const char *const *domains; /* live as long as the snapshot */
    uint32_t domain_count;
};

struct conf_global {
    /* First host-name; the machine's name when none is given. Lives as long as the process. */
    const char *host_name;
    const char *host_id;       /* part of the ids that are made here; NULL = none */
    const char *domain_suffix; /* of addresses whose domain has no dot; NULL = they stay */
    const char *log_file;      /* NULL = standard error */
    uint32_t log_rotate;       /* old log files that are kept */
    bool log_auto_rotation;    /* a new one at midnight, UTC */
    bool log_world_readable;
    const char *control_socket;
    const char *run_as_user; /* NULL = stay */
    const struct conf_listener *listeners;
    uint32_t listener_count;
    const struct conf_spool *spools;
    uint32_t spool_count;
    const char *const *name_servers; /* "address" or "address@port"; none = the system's */
    uint32_t name_server_count;
    const char *trust_anchor_file; /* NULL = answers of the DNS are not validated */
    const struct conf_authorities *mta_sts_authorities; /* NULL = MTA-STS is not used */
    uint32_t shard_count;                               /* 0 = auto: one per usable core */
    const uint16_t *shard_cpus; /* shard-cpus LIST; empty = as topology says */
    uint32_t shard_cpu_count;
    bool shard_smt;                    /* shard-smt: use SMT siblings too */
    uint64_t spool_rcpts_max;          /* 0 = as many as there is memory for */
    uint32_t spool_min_free_megabytes; /* of folders that say nothing of it */
    const char *invalid_vmta_fallback; /* NULL = none */
    bool relay_debug;
    bool check_mfrom;                 /* of sources that do not say otherwise */
    const char *include_headers_from; /* of virtual MTAs that have none of their own, or NULL */
    const char *use_proxy;            /* names between commas; NULL = none */
    const char *pickup_folder;        /* NULL = none */
    const char *pickup_bad_folder;
    bool pickup_remove_dot;
    uint64_t total_max_smtp_in;
    uint64_t reserved_smtp_in; /* worked out: of these, for source groups */
    bool await_slot;
    uint32_t memory_percent_max;
    uint64_t total_max_smtp_out;
    uint64_t hot_set_bytes;     /* hot-set-size: message bytes kept in memory, all shards */
    uint64_t outcome_commit_ms; /* outcomes are durable at latest after this */
    bool committer_thread;      /* committer-thread yes: a thread of its own */
    uint64_t resolver_timeout_ms;
    uint32_t edns_udp_bytes;
    uint32_t text_line_octets_max; /* text-line-max: of message data, with CRLF */
    uint32_t dkim_sign_with;       /* enum conf_sign_with, see dkim.h */
    uint32_t provider_pack;        /* enum conf_provider_pack, see provider.h */
    uint32_t provider_tier;        /* of virtual MTAs that say nothing */
    bool allow_loopback_mx;        /* allow-loopback-destinations: DNS may name loopback (tests) */
    bool track_first_attempt;      /* track-time-first-attempt */
    bool dkim_wait_for_record;     /* dkim-wait-for-record */
    bool allow_private_mx; /* destinations in private ranges learnt from DNS (default yes) */
    const char *warm_up_time_zone;
    /* Templates of notices (core/mail/dsn.h); NULL = ours. */
    const char *custom_dsn_from;
    const char *dsn_failed_from;
    const char *dsn_failed_subject;
    const char *dsn_failed_body_from; /* the file */
    struct slice dsn_failed_body;     /* its lines with CRLF */
    /* Reports about TLS (RFC 8460); NULL = none are made. */
    const char *tls_report_from; /* an address */
    const char *tls_report_organization;
    const char *tls_report_contact;
    const char *tls_report_vmta; /* NULL = {default} */
    struct conf_precache precache;
    struct conf_tls_in tls_in; /* of listeners that say nothing */
};

const struct conf_global *conf_global(const struct conf *conf);
/* Of warm-up-time-zone. */
const struct zone *conf_zone(const struct conf *conf);

/* At most count in each span of the interval; CONF_UNLIMITED = no bound, 0 = none at all. */
struct conf_rate {
    uint64_t count; /* octets, where it is one of data volume */
    uint64_t interval_ms;
    uint64_t burst; /* so many may be saved up; 0 = paced evenly */
};

/* ---- Sources: who may inject, and how ------------------------------------------------------- */

#define CONF_REMOVE_HEADERS_MAX 24u

enum conf_add_date {
    CONF_ADD_DATE_NO,
    CONF_ADD_DATE_YES, /* where it is missing */
    CONF_ADD_DATE_OVERRIDE,
};

/* What becomes of a message that lacks what its source requires. */
enum conf_require {
    CONF_REQUIRE_OFF,
    CONF_REQUIRE_WARN, /* a line in the log */
    CONF_REQUIRE_REJECT,
};

/* How much of a message its failure notice brings back. */
enum conf_dsn_return {
    CONF_DSN_HEADERS,
    CONF_DSN_FULL,
    CONF_DSN_SYSTEM, /* the header, as long as no message asks for more itself */
};

/* What messages of a source may set for themselves; bits as the choices of allow-message-settings
 * stand. */
enum conf_message_setting {
    CONF_SET_EXPIRY = 1,
    CONF_SET_RETRY = 2,
    CONF_SET_WAY = 4 | 8, /* the virtual MTA or pool, by either of its names */
    CONF_SET_TLS = 16,
    CONF_SET_PRIORITY = 32,
};

enum conf_bad_line_ends {
    CONF_LINE_ENDS_REJECT,
    CONF_LINE_ENDS_FIX,
};

struct regex_scratch;
struct conf_pattern_list;
struct conf_address_list;
struct conf_category_list;
struct conf_rewrite_list;
struct acct_csv_layout;

/*
 * Plain values may be copied and kept. Texts and lists live as long as the snapshot: who holds a
 * copy asks conf_source anew before it reads them.
 */
struct conf_source {
    bool smtp_service;
    bool always_allow_relaying;
    bool require_auth;
    bool allow_auth;
    bool offers_auth; /* worked out: it is allowed, and there is somebody who may log in */
    bool allow_unencrypted_plain_auth;
    bool allow_starttls;
    bool require_starttls_before_auth;
    struct conf_rate auth_failure_rate; /* of one client address */
    bool needs_header; /* worked out: some setting below looks into the header of a message */
    bool process_x_virtual_mta;
    bool retain_x_virtual_mta;
    bool allow_empty_x_virtual_mta;
    bool reject_invalid_virtual_mta;
    bool add_x_virtual_mta_header;
    bool default_by_local_ip; /* default-virtual-mta by-smtp-source-ip */
    bool process_x_job;
    bool retain_x_job;
    bool process_x_envid;
    bool retain_x_envid;
    bool process_x_dkim_options;
    bool retain_x_dkim_options;
    bool process_x_dkim_key;
    bool retain_x_dkim_key;
    bool process_x_schedule;
    bool retain_x_schedule;
    bool remove_received_headers;
    bool add_message_id_header;
    uint64_t dedup_window_ms;          /* 0 = off */
    struct conf_rate max_rcpt_in_rate; /* recipients taken; over all clients of its section */
    uint64_t dedup_key; /* worked out: the section that says the one, and the other */
    uint64_t rcpt_in_key;
    uint64_t login_key;                /* of who logged in, see conf_login_key; else 0 */
    uint32_t allow_message_settings;   /* enum conf_message_setting */
    uint32_t add_date_header;          /* enum conf_add_date */
    uint32_t require_list_unsubscribe; /* enum conf_require, as the next two */
    uint32_t require_from_alignment;
    uint32_t require_message_id;
    bool auto_qualify_domain;
    bool verp_default;
    bool too_many_rcpts_fails_message;
    bool accept_invalid_rcpts;
    bool disconnect_on_transient_error;
    const char *bcc;         /* NULL = none */
    const char *feedback_id; /* template; NULL = none */
    const char *jobid_header;
    const char *jobid_prefix;          /* NULL = none */
    const char *allow_virtual_mta;     /* names between commas; NULL = all */
    const char *invalid_vmta_fallback; /* NULL = none */
    const char *remove_header;         /* names between commas; NULL = none */
    bool suppress_local_dsn;
    uint32_t dsn_return_default; /* enum conf_dsn_return */
    bool add_received_header;
    bool hide_message_source;
    bool allow_chunking;
    bool allow_smtputf8;
    bool log_connections;
    bool log_commands;
    bool log_data;
    bool log_tls;
    bool check_spf;
    bool check_dkim;
    bool check_iprev;
    bool check_mfrom;
    bool trace_spf;
    bool trace_dkim;
    bool trace_iprev;
    bool reject_spf_temperror;
    bool reject_spf_permerror;
    bool reject_spf_fail;
    bool reject_iprev_temperror;
    bool reject_iprev_permerror;
    bool reject_iprev_fail;
    bool has_lists;                           /* worked out: one of the two below is there */
    const struct conf_pattern_list *patterns; /* NULL = none */
    const struct conf_address_list *const *suppressions; /* [suppression_count] */
    uint32_t suppression_count;
    const struct conf_rewrite_list *rewrites; /* NULL = none */
    const char *rewrite_list;                 /* its name */
    struct slice included;                    /* header lines with CRLF; likewise */
    const char *include_headers_from;         /* the file they come from, or NULL */
    const char *pattern_list;                 /* the names of them */
    const char *source_group;                 /* likewise, or NULL */
    uint32_t group_id;                        /* worked out, or CONF_NONE */
    const char *suppression_lists;            /* between commas */
    uint32_t default_virtual_mta;             /* VMTA id, or CONF_NONE */
    uint32_t default_pool;                    /* pool id, or CONF_NONE */
    uint64_t max_message_bytes;               /* CONF_UNLIMITED = 2 GiB, see shard/inject_int.h */
    uint64_t max_rcpt_per_message;            /* CONF_UNLIMITED = up to the engine's bound */
    uint64_t max_message_hops;
    uint64_t command_timeout_ms;
    uint64_t data_timeout_ms;
    enum conf_bad_line_ends bad_line_ends; /* bare CR, LF, NUL in message data */
};

/* Effective settings for a client address; name: the listener's named source or NULL. Addresses
 * with no <source> at all get the defaults: loopback only may relay. */
const struct conf_source *conf_source(const struct conf *conf, const struct ipaddr *peer,
                                      const char *name);

/* PBKDF2 with HMAC-SHA-256, one block of 32 octets. */
struct conf_password_hash {
    uint32_t iterations; /* 0 = the password is plain text */
    uint8_t salt_bytes;
    uint8_t salt[64];
    uint8_t key[32];
};

#define CONF_PASSWORD_ITERATIONS_MAX 1000000u
#define CONF_USER_TEXT_MAX           255 /* octets of a name and of a password */

enum conf_user_method {
    CONF_USER_BY_PASSWORD,
    CONF_USER_BY_SYSTEM,
    CONF_USER_BY_CERTIFICATE,
};

/* Somebody who may log in: <smtp-user>. */
struct conf_smtp_user {
    const char *name;                           /* lives as long as the process, as source does */
    const char *source;                         /* named source that counts for it, or NULL */
    const char *password;                       /* NULL where it is hashed */
    uint32_t method;                            /* enum conf_user_method */
    const struct conf_certificate *certificate; /* or NULL; without a key */
    struct conf_password_hash hash;
    const char *allow_virtual_mta; /* of what the source allows; NULL = all of it */
    struct conf_rate max_rcpt_in_rate;
    uint64_t rcpt_in_key; /* worked out */
};

/* NULL when there is none of that name; ASCII case is ignored. */
const struct conf_smtp_user *conf_smtp_user(const struct conf *conf, struct slice name);
/* What the user logs in by: another password or certificate has another key. */
uint64_t conf_login_key(const struct conf *conf, const struct conf_smtp_user *user);
/* The most iterations that a user's hash has: what a login takes, whoever it is. */
uint32_t conf_login_iterations(const struct conf *conf);

/* Ids of groups are below this, over the life of the process. */
#define CONF_SOURCE_GROUPS_MAX 256u

/* Sources that share limits of sessions. */
struct conf_source_group {
    uint32_t id; /* stable over snapshots for one name */
    const char *name;
    uint64_t max_smtp_in;      /* sessions, or CONF_UNLIMITED */
    uint64_t reserved_smtp_in; /* of total-max-smtp-in, for nobody else */
};

/* NULL when the snapshot has no such group. */
const struct conf_source_group *conf_source_group(const struct conf *conf, uint32_t id);
/* Whether who connects to this address of ours, and finds no place, waits for one. */
bool conf_awaits_slot(const struct conf *conf, const struct ipaddr_port *local);

/* How TLS is spoken with who connects to this address of ours; lives as long as the snapshot. */
const struct conf_tls_in *conf_tls_in(const struct conf *conf, const struct ipaddr_port *local);
/* Bits of enum conf_tls_version. */
uint32_t conf_tls_versions(const struct conf_tls_in *tls);
/* Whether somebody logs in by certificate, so that clients are to be asked for theirs. */
bool conf_asks_certificates(const struct conf *conf);
/* Whose certificate that is, by its digest of CONF_DIGEST_BYTES. name: if not empty, the user must
 * have that one. NULL when there is nobody. */
const struct conf_smtp_user *conf_user_of_certificate(const struct conf *conf, struct slice name,
                                                      const uint8_t *digest);

/* What a pattern list is asked about. */
struct conf_pattern_question {
    struct slice sender;
    struct slice rcpt;
    /* The value of the first field of that name; false when there is none. NULL: the header is not
     * known, and no rule about it matches. */
    bool (*header)(void *context, struct slice name, struct slice *ret_value);
    void *context;
};

struct conf_pattern_answer {
    const char *virtual_mta; /* or pool; NULL when no rule matches */
    uint64_t path;           /* which rule of which list it was, over all calls; 0 for none */
    uint64_t priority_path;  /* likewise of the first rule up to there that has a priority */
    uint8_t priority;        /* of that one */
    bool has_priority;
};

/* The first rule that matches. scratch: of the calling thread. */
void conf_patterns_ask(const struct conf_pattern_list *list,
                       const struct conf_pattern_question *question, struct regex_scratch *scratch,
                       struct conf_pattern_answer *ret_answer);
bool conf_patterns_use_header(const struct conf_pattern_list *list);
/* The sender that the first rule which fits makes of this one, composed in room; sender itself
 * where none fits or the result has no room. The null sender stays. */
struct slice conf_rewrite(const struct conf_rewrite_list *list, struct slice sender, char *room,
                          size_t room_bytes);
/* Whether everybody may send to the address: relay-domain, relay-address. */
bool conf_relays(const struct conf *conf, struct slice address, struct regex_scratch *scratch);
/* How many addresses the mail for this one goes to; 0 when it is no alias. postmaster at one of our
 * host names is one of those that `postmaster` names, unless an alias says otherwise. */
uint32_t conf_alias(const struct conf *conf, struct slice address,
                    const struct slice **ret_targets);
/* Messages that name no virtual MTA that there is, and are taken all the same, are queued for this
 * name, which none has: they go by the fallback, or bounce. */
#define CONF_VMTA_INVALID   "{invalid}"
/* Likewise the domain of recipients whose address is broken, and who are taken all the same. */
#define CONF_DOMAIN_INVALID "{invalid}"
/* Whether the address, or its domain, is in the list. */
bool conf_address_list_has(const struct conf_address_list *list, struct slice address,
                           struct regex_scratch *scratch);

/* ---- Virtual MTAs and pools ----------------------------------------------------------------- */

/* The id of the VMTA "{default}". */
#define CONF_VMTA_DEFAULT  0
/* Octets of a name, of pools too. */
#define CONF_VMTA_NAME_MAX 63

struct conf_vmta {
    uint32_t id;      /* stable over snapshots for one name */
    const char *name; /* "{default}" exists always */
    const struct conf_source_address *addresses;
    uint32_t address_count;
    uint32_t pool_id;                           /* of the last pool that has it, or CONF_NONE */
    uint64_t max_smtp_out;                      /* whole VMTA */
    struct conf_rate max_smtp_msg_rate;         /* likewise: recipients tried */
    struct conf_rate max_smtp_data_volume_rate; /* likewise: octets delivered */
    const struct conf_rewrite_list *rewrites;   /* of senders; NULL = none */
    const char *rewrite_list;                   /* its name; lives as long as the snapshot */
    struct slice included;                      /* header lines with CRLF; likewise */
    const char *include_headers_from;           /* the file they come from, or NULL */
    uint32_t provider_tier;                     /* enum conf_provider_tier, see provider.h */
    const char *use_proxy;                      /* names between commas, or NULL; likewise */
    uint32_t proxy_protocol;                    /* 0 = as its proxies say */
    uint32_t rank_count;                        /* of its addresses, 1 at least */
    const char *const *cold_names;              /* cold-virtual-mta, its own or its pool's */
    uint32_t cold_count;
};

struct conf_pool {
    uint32_t id;
    const char *name;
    const uint32_t *vmta_ids;
    uint32_t vmta_count;
};

/* A time as the configuration writes them: "1d12h". False when it is none. */
bool conf_parse_time(struct slice text, uint64_t *ret_ms);
/* Takes the next name off a list of the configuration ("a,b,c"); false at its end. */
bool conf_next_name(struct slice *rest, struct slice *ret_name);
/* Whether the name is on such a list, in whatever case; NULL is an empty one. */
bool conf_is_listed(const char *list, struct slice name);

uint32_t conf_vmta_count(const struct conf *conf);
/* Above the largest number of its virtual MTAs: the size of a table by their numbers. */
uint32_t conf_vmta_id_end(const struct conf *conf);
/* By position 0 … count-1, in the order of the file, {default} first. */
const struct conf_vmta *conf_vmta_at(const struct conf *conf, uint32_t position);
/* NULL when the snapshot has none of that id or name (ASCII case ignored). */
const struct conf_vmta *conf_vmta(const struct conf *conf, uint32_t id);
const struct conf_vmta *conf_vmta_named(const struct conf *conf, struct slice name);
const struct conf_pool *conf_pool(const struct conf *conf, uint32_t id);
/* Of the first virtual MTA that has this source address, in the order of the file; else NULL. */
const struct conf_vmta *conf_vmta_of_address(const struct conf *conf, const struct ipaddr *ip);
const struct conf_pool *conf_pool_named(const struct conf *conf, struct slice name);
/* The name of an id, also when the snapshot has it no more; to be read while the snapshot lives. */
const char *conf_vmta_name(const struct conf *conf, uint32_t id);
/* The id of a name, whether the snapshot has it or not; CONF_VMTA_DEFAULT for an empty one and when
 * memory is short. */
uint32_t conf_vmta_id(const struct conf *conf, struct slice name);
/* Of a name that is no virtual MTA's, in a sentence; a pool's is told apart. takes_all: where it
 * was given, "*" might have been. */
#define CONF_VMTA_MISSING_MAX 160
void conf_vmta_missing(const struct conf *conf, const char *name, bool takes_all,
                       char room[CONF_VMTA_MISSING_MAX]);
uint32_t conf_pool_count(const struct conf *conf);
const struct conf_pool *conf_pool_at(const struct conf *conf, uint32_t position);

/* ---- Queues: effective settings of domain/vmta ---------------------------------------------- */

/* Whether the next message's commands leave in the flight that ends one. */
enum conf_pipeline_across {
    CONF_PIPELINE_NO,
    CONF_PIPELINE_AUTO, /* by route at once, elsewhere when a receiver has proved itself */
    CONF_PIPELINE_YES,
};

/* What is done with a queue's mail. */
enum conf_delivery {
    CONF_DELIVERY_SMTP,
    CONF_DELIVERY_PIPE,
    CONF_DELIVERY_FILE,
    CONF_DELIVERY_DISCARD,
    CONF_DELIVERY_HTTP, /* not built yet: as by SMTP */
};

/* Its mail goes to no host. */
static inline bool conf_delivery_is_local(enum conf_delivery delivery)
{
    return delivery == CONF_DELIVERY_FILE || delivery == CONF_DELIVERY_PIPE ||
           delivery == CONF_DELIVERY_DISCARD;
}

enum conf_file_format {
    CONF_FILE_PLAIN,
    CONF_FILE_PICKUP,
    CONF_FILE_MBOX,
};

enum conf_route_kind {
    CONF_ROUTE_HOST,      /* name to be looked up as A/AAAA */
    CONF_ROUTE_ADDRESS,   /* [ip] */
    CONF_ROUTE_LOOKUP_MX, /* lookup-mx:domain */
};

struct conf_route_host {
    enum conf_route_kind kind;
    const char *name;
    struct ipaddr ip;
    uint16_t port;       /* 0 = the queue's default_port */
    uint16_t preference; /* position of its ';' group */
};

#define CONF_RETRY_STEPS_MAX 30

/* Lists of bounce categories that a queue may have: its domain's most specific one, its virtual
 * MTA's or pool's, the top level's. They are asked in this order. */
#define CONF_CATEGORY_LISTS 3

/* Limits of core/conf/limit.h; lives as long as the snapshot. */
struct conf_limit;
struct conf_limit_list {
    const struct conf_limit *const *items;
    uint32_t count;
};

/* What is bounded for all mail to a provider from one source address; NULL: nothing is. */
enum conf_provider_bound {
    CONF_PROVIDER_CONNECTIONS,
    CONF_PROVIDER_RECIPIENTS,         /* in a span of time */
    CONF_PROVIDER_CONNECTS,           /* likewise */
    CONF_PROVIDER_TENANT_CONNECTIONS, /* of one site of the provider's */
    CONF_PROVIDER_BOUNDS,
};

/* Every limit is per queue, as PowerMTA has it. */
struct conf_queue {
    const struct conf_route_host *route; /* smtp-hosts; empty = MX of the domain */
    uint32_t route_count;
    uint64_t route_hash; /* of the whole route with its ports; 0 when there is none */
    uint16_t default_port;
    uint64_t max_smtp_out;
    struct conf_rate max_msg_rate; /* recipients tried */
    struct conf_rate max_connect_rate;
    struct conf_rate max_data_volume_rate; /* octets of content, delivered */
    uint64_t max_msg_per_connection;       /* CONF_UNLIMITED = no cap */
    uint64_t max_rcpt_per_transaction;
    uint64_t max_errors_per_connection;
    uint64_t max_events_recorded;
    uint64_t mx_connection_attempts; /* addresses without an answer, in a row */
    uint64_t connection_idle_ms;
    uint64_t retry_ms[CONF_RETRY_STEPS_MAX]; /* retry-after: a list; the last one repeats */
    uint32_t retry_count;
    /* retry-recipients-after, likewise, for recipients that the receiver put off; none: retry_ms.
     * Lives as long as the snapshot. */
    const uint64_t *rcpt_retry_ms;
    uint32_t rcpt_retry_count;
    bool retry_upon_new_mail;
    bool discard_as_bounce;
    bool bounce_upon_transfer_failure;
    bool assume_delivery_upon_timeout; /* of the reply to a whole message */
    enum conf_delivery delivery;
    enum conf_file_format file_format;
    const char *command;          /* likewise */
    const char *file_destination; /* see delivery.h; NULL = none; lives as long as the snapshot */
    uint32_t unwanted_records;    /* enum conf_acct_record: kinds that get no row */
    bool disable_mx_rollup;
    uint64_t rampup_ms;    /* contained in max_connect_rate */
    uint64_t dns_retry_ms; /* after DNS gave no answer */
    uint64_t bounce_after_ms;
    uint64_t connect_timeout_ms;
    uint64_t greeting_timeout_ms;
    uint64_t command_timeout_ms; /* EHLO, MAIL, RCPT; RFC 5321 4.5.3.2 */
    uint64_t data_timeout_ms;    /* DATA to 354 */
    uint64_t data_send_timeout_ms;
    uint64_t data_termination_timeout_ms;
    /* The twins that count in backoff mode; those that are not given are the normal ones. */
    uint64_t backoff_max_smtp_out;
    struct conf_rate backoff_max_msg_rate;
    struct conf_rate backoff_max_connect_rate;
    struct conf_rate backoff_max_data_volume_rate;
    uint64_t backoff_retry_ms[CONF_RETRY_STEPS_MAX];
    uint32_t backoff_retry_count;
    uint64_t backoff_to_normal_after_ms; /* CONF_UNLIMITED = never */
    bool backoff_to_normal_after_delivery;
    bool backoff_upon_all_sources_disabled;
    uint64_t reenable_source_ip_after_ms;  /* CONF_UNLIMITED = never */
    const char *reply_list_name;           /* as it was written, or NULL */
    const struct conf_reply_list *replies; /* smtp-pattern-list; NULL = none */
    bool bounce_upon_no_mx;
    uint64_t bounce_upon_no_mx_after_ms; /* age of the mail from which on that counts; 0 = any */
    bool bounce_upon_5xx_greeting;
    bool smtp_421_means_mx_unavailable;
    bool check_spf_outbound;
    bool smtp_553_means_invalid_mailbox;
    bool replace_421;          /* report the refusal before it */
    const char *auth_username; /* NULL = no login; these live as long as the snapshot */
    const char *auth_password;
    bool use_unencrypted_plain_auth;
    /* TLS with receivers; the files live as long as the snapshot. */
    bool use_starttls;
    bool use_dane;
    bool use_mta_sts;
    bool require_starttls;
    bool reuse_ssl_session;
    bool tls_allows[4];                             /* by the order of enum conf_tls_version */
    const char *tls_ciphers;                        /* NULL = the library's */
    const struct conf_certificate *tls_certificate; /* shown to who asks; NULL = none */
    const struct conf_authorities *tls_authorities; /* NULL = nobody's chain is judged */
    bool log_tls;
    bool ignore_pipelining;
    bool ignore_chunking;
    bool ignore_dsn;
    bool track_recipient_events;
    bool allow_cancel_during_transfer;
    enum conf_pipeline_across pipeline_across_messages;
    bool ignore_8bitmime;
    uint64_t queue_priority;  /* 0 to 100 */
    bool prefer_ipv6;         /* IPv4 first unless told otherwise */
    const char *max_cold_msg; /* counts by days, see cold.h; lives as long as the snapshot */
    const char *queue_to;     /* name of the queue that takes the mail, or NULL; see conf_way */
    const char *reroute_to;   /* likewise a virtual MTA or pool */
    const char *backoff_reroute_to; /* likewise, in backoff mode; see conf_way_in_backoff */
    /* Notices. The first two count where the domain is the sender's. The texts live as long as the
     * snapshot; NULL = nobody. */
    bool deliver_local_dsn;
    uint64_t notify_of_delay_ms;
    bool dsn_plain_text;
    const char *bcc_upon_delivery;
    const char *backoff_notify; /* addresses between commas, like the next */
    const char *disabled_source_ip_notify;
    bool log_commands;
    bool log_connections;
    bool log_data;
    bool log_resolution;
    bool log_transfer_failures;
    struct conf_signing signing;
    const struct conf_limit *provider_limits[CONF_PROVIDER_BOUNDS]; /* see provider.h */
    struct conf_limit_list source_limits[4]; /* source-ip-max-*, by enum conf_quantity */
    const struct conf_category_list *categories[CONF_CATEGORY_LISTS]; /* NULL = none */
};

/*
 * Fills *ret_queue for the queue of domain (lower case A-label) and vmta: most specific domain
 * pattern wins per directive; <domain> in the VMTA beats the one in its pool beats the global one.
 * Cheap enough to call when a queue is created, not per message.
 */
void conf_queue(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                struct conf_queue *ret_queue);

/* Some block has allow-cancel-during-transfer no. */
bool conf_keeps_transfers(const struct conf *conf);

/* ---- Queues that hand their mail on ---------------------------------------------------------- */

/* The queue that mail goes to, by way of queue-to and reroute-to-virtual-mta. */
struct conf_way {
    struct slice domain; /* the caller's, or a text that lives as long as the process */
    uint32_t vmta_id;
    bool is_elsewhere; /* another queue than the one that was asked about */
    bool by_turn;      /* there is a pool on the way, so that the next turn may lead elsewhere */
};

/*
 * Where the mail of the queue of domain and vmta goes: at each queue first by queue-to, then by
 * reroute-to-virtual-mta, until a queue keeps it. turn: which member of a pool it is, counted
 * round. A virtual MTA that is itself named, or is in the pool that is named, keeps the mail; so
 * does one that names what the snapshot has not. A circle, which conf_load refuses where it sees
 * one, leaves the mail where it is. Costs next to nothing where the configuration has neither
 * keyword.
 */
void conf_way(const struct conf *conf, struct slice domain, uint32_t vmta_id, uint64_t turn,
              struct conf_way *ret_way);

/* How often mail is handed on by queues in backoff mode at most. */
#define CONF_BACKOFF_STEPS_MAX 3

/*
 * Whether a queue hands its mail on while it is in backoff mode, and else keeps it. Not when the
 * mail could then go round in a circle, or on more than CONF_BACKOFF_STEPS_MAX times, which
 * conf_load refuses where it sees it.
 */
bool conf_hands_on_in_backoff(const struct conf *conf, struct slice domain, uint32_t vmta_id);
/* From the queue at the end of the way on to the one that takes its mail over in backoff mode;
 * false: none does. */
bool conf_way_in_backoff(const struct conf *conf, uint64_t turn, struct conf_way *way);

/* ---- Where settings come from ---------------------------------------------------------------- */

enum conf_setting_effect {
    CONF_SETTING_ACTS,
    CONF_SETTING_NOT_YET, /* checked, no effect so far */
    CONF_SETTING_IGNORED,
    CONF_SETTING_ADVISED, /* would act with `provider-pack on` */
};

/* One keyword of a queue; several in a row of one that may be repeated. */
struct conf_setting {
    const char *section; /* "way", "domain", "virtual-mta", or "provider NAME" */
    const char *keyword;
    const char *value; /* as it was written; "" without a line and a default; secrets are hidden */
    const char *file;  /* NULL: the default */
    uint32_t line;
    enum conf_setting_effect effect;
};

/* The strings live as long as the snapshot. */
typedef void conf_setting_fn(void *context, const struct conf_setting *setting);

/* Whether the override of that origin, which the load was given, has effect; else it was passed by
 * with a warning. */
bool conf_heeds_override(const struct conf *conf, const char *origin);
/*
 * Tells every keyword of the queue that has the mail of domain (lower case A-label) and vmta, then
 * every one of the virtual MTA itself, with the line that decides it. Where that is another queue
 * (conf_way), the line that hands the mail on comes first; of a pool it is the first turn's. False
 * when there is no such virtual MTA. For people: takes milliseconds with large tables.
 */
bool conf_settings_tell(const struct conf *conf, struct slice domain, struct slice vmta,
                        conf_setting_fn *tell, void *context, struct conf_way *ret_way);

/* How much of a line of a configuration's text may be shown: all, or up to the first keyword in it
 * whose value is a secret. */
size_t conf_shown_octets(struct slice line);

/* ---- Bounce categories ---------------------------------------------------------------------- */

struct conf_category {
    const char *name;
    const char *file; /* the line that says so */
    unsigned line;
};

/* What the first pattern that matches says, over all lists; false when none does. subject: as
 * PowerMTA has it, "X.Y.Z;" and the reply. scratch: of the calling thread. */
bool conf_category_ask(const struct conf_category_list *const lists[CONF_CATEGORY_LISTS],
                       struct slice subject, struct regex_scratch *scratch,
                       struct conf_category *ret_category);
/* The same for a delivery, of which only patterns with the category `success` are asked. */
bool conf_category_ask_success(const struct conf_category_list *const lists[CONF_CATEGORY_LISTS],
                               struct slice subject, struct regex_scratch *scratch,
                               struct conf_category *ret_category);

/* ---- Accounting files ----------------------------------------------------------------------- */

enum conf_acct_record {
    CONF_ACCT_DELIVERED = 1, /* d */
    CONF_ACCT_BOUNCED = 2,   /* b */
    CONF_ACCT_TRANSIENT = 4, /* t */
    CONF_ACCT_RECEIVED = 8,  /* r */
};

struct conf_acct_file {
    const char *path;
    unsigned records;    /* enum conf_acct_record, default d,b */
    const char *move_to; /* NULL = off */
    uint64_t move_interval_ms;
    uint64_t max_size_bytes;
    uint64_t retry_ms;        /* of a program, whose path begins with '|' */
    uint64_t timeout_ms;      /* likewise, when it takes nothing */
    uint64_t delete_after_ms; /* CONF_UNLIMITED = never */
    bool iso_times;
    bool world_readable;
    bool count_moved_records;
    const char *user_string;    /* these two are in the layout */
    const char *privacy_policy; /* as it was written */
    const char *queue_filter;   /* for conf_queue_filter_new; NULL = all queues */
    const char *field_lines;    /* record-fields and map-header-to-field, as they were written */
    const struct acct_csv_layout *layout;
};

uint32_t conf_acct_file_count(const struct conf *conf);
const struct conf_acct_file *conf_acct_file_at(const struct conf *conf, uint32_t position);

/* Header fields of messages that some accounting file quotes. */
#define CONF_NOTED_HEADERS_MAX 24u
const struct slice *conf_noted_headers(const struct conf *conf, uint32_t *ret_count);

#define CONF_FILTER_WHY_MAX 200

/*
 * "[!]DOMAIN/VMTA,...": which queues have rows in a file. A queue is in when a pattern without !
 * matches it, or there is none, and no pattern with ! does. 0, or E_SYNTAX with a text in why.
 */
struct conf_queue_filter;
int conf_queue_filter_new(const char *text, struct conf_queue_filter **ret_filter,
                          char why[CONF_FILTER_WHY_MAX]);
/* NULL is fine. */
void conf_queue_filter_free(struct conf_queue_filter *filter);
/* queue: "domain/vmta". */
bool conf_queue_filter_has(const struct conf_queue_filter *filter, struct slice queue);

/* ---- The language --------------------------------------------------------------------------- */

/* Every keyword and section with its defaults, as the Markdown page docs/directives.md. */
void conf_directives_print(FILE *out);
