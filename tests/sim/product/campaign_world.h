/*
 * campaign_world: the receivers of a large campaign and their DNS, in the simulated world.
 *
 * Recipient n is u<n> (or x<n>, who does not exist) at the domain that campaign_domain says; who
 * runs its mail follows from shares of the whole. Receivers count what each recipient was told, and
 * hold throttles against our source addresses as their kind does.
 */
#pragma once

#include "core/base/slice.h"
#include "tests/sim/sim.h"

struct dns_query;
struct campaign_world;

/* Who runs the mail. name, share of recipients in 1/1000, of domains in 1/1000 (0: `few`), few. */
#define CAMPAIGN_KINDS(X)                                                                          \
    X(GMAIL, "gmail", 350, 0, 1)                                                                   \
    X(WORKSPACE, "workspace", 80, 250, 0)                                                          \
    X(OUTLOOK, "outlook", 120, 0, 3)                                                               \
    X(M365, "m365", 120, 250, 0)                                                                   \
    X(YAHOO, "yahoo", 120, 0, 4)                                                                   \
    X(APPLE, "apple", 60, 0, 3)                                                                    \
    X(PLAIN, "plain", 100, 350, 0)                                                                 \
    X(GREY, "greylisting", 20, 70, 0)                                                              \
    X(LATE, "late-banner", 10, 30, 0)                                                              \
    X(DEAD, "dead-mx", 10, 25, 0)                                                                  \
    X(NXDOMAIN, "nxdomain", 10, 25, 0)

enum campaign_kind {
#define CAMPAIGN_ENUM(name, text, rcpts, domains, few) CAMPAIGN_##name,
    CAMPAIGN_KINDS(CAMPAIGN_ENUM)
#undef CAMPAIGN_ENUM
        CAMPAIGN_KIND_COUNT,
};

#define CAMPAIGN_SOURCES 8u

struct campaign_rcpt {
    uint32_t accepted_ms; /* since the start of the world; 0 = not yet */
    uint32_t seen_s;      /* first refused by greylisting; 0 = not yet */
    uint8_t seen_source;
    uint8_t delivered; /* how often */
    uint8_t refused;   /* as unknown, how often */
};

/* A throttle against one of our addresses. */
struct campaign_throttle {
    uint64_t minute; /* of the count */
    uint32_t count;  /* recipients taken in it */
    uint64_t stop_from_ns;
    uint64_t stop_until_ns;
    uint64_t inside; /* transactions begun in a stop, when all that was in flight had arrived */
    uint32_t stops;
};

#define CAMPAIGN_WAITS 4096u
/* Waits from acceptance to delivery, in tenths of a second; the last holds all longer ones. */
struct campaign_waits {
    uint64_t at[CAMPAIGN_WAITS];
    uint64_t count;
};

struct campaign_kind_figures {
    uint64_t rcpts;     /* accepted */
    uint64_t delivered; /* recipients */
    uint64_t unknown;   /* refused: who does not exist */
    uint64_t doubles;   /* delivered or refused once more */
    struct campaign_waits waits;
};

struct campaign_setup {
    uint32_t rcpt_count; /* of the campaign; more may be numbered behind it */
    uint32_t rcpt_room;  /* in all */
    uint32_t domain_count;
    bool is_hosted;        /* all are at domains whose mail one provider runs */
    uint32_t unknown_rate; /* one in so many does not exist; 0 = all do */
    /* Recipients a minute that Gmail and Yahoo take from one address; 0 = without bound. */
    uint32_t throttle_rcpts;
};

struct campaign_world *campaign_world_create(struct sim_world *world,
                                             const struct campaign_setup *setup);
void campaign_world_destroy(struct campaign_world *campaign);

enum campaign_kind campaign_kind_of(const struct campaign_world *campaign, uint32_t rcpt);
/* NUL-terminated into a room of 64 bytes: u1@d2.plain.test. */
void campaign_address(const struct campaign_world *campaign, uint32_t rcpt, char *room);
bool campaign_is_unknown(const struct campaign_world *campaign, uint32_t rcpt);
struct campaign_rcpt *campaign_rcpt(struct campaign_world *campaign, uint32_t rcpt);
/* The recipient's message was answered 250. */
void campaign_note_accepted(struct campaign_world *campaign, uint32_t rcpt);
/* Figures of a kind; recipients behind the campaign's count in the second row. */
const struct campaign_kind_figures *campaign_figures(const struct campaign_world *campaign,
                                                     enum campaign_kind kind, bool is_extra);
const struct campaign_throttle *campaign_throttle(const struct campaign_world *campaign,
                                                  enum campaign_kind kind, unsigned source);
/* So many of a hundred waited no longer; milliseconds, rounded up to a tenth of a second. */
uint64_t campaign_percentile_ms(const struct campaign_waits *waits, unsigned percent);
/* Answers DNS questions; the script of a names_zone. */
int campaign_on_question(void *context, struct dns_query *query);
