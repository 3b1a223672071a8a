/*
 * err: the one table of local errors, as negative integers.
 *
 * A function that can fail returns 0 or a positive count on success and a negative value on
 * failure: either -errno from the system or one of ours below. Remote replies are never errors
 * (see core/mail/verdict.h) and broken invariants never return (see must.h). Stateless, any thread.
 */
#pragma once

/* name, value, text. Values start above every errno of Linux, so the two never meet. */
#define ERR_TABLE(X)                                                                               \
    X(E_FULL, 1001, "no room now; try again later")                                                \
    X(E_SYNTAX, 1002, "syntax error")                                                              \
    X(E_TOO_LONG, 1003, "longer than its limit")                                                   \
    X(E_RANGE, 1004, "value out of range")                                                         \
    X(E_DAMAGED, 1005, "checksum or structure does not match")                                     \
    X(E_POISONED, 1006, "the log is poisoned after a failed sync")                                 \
    X(E_UNKNOWN, 1007, "unknown name or type")                                                     \
    X(E_EXISTS, 1008, "given twice")                                                               \
    X(E_NOT_FOUND, 1009, "not found")                                                              \
    X(E_VERSION, 1010, "written by an unsupported version")                                        \
    X(E_CLOSED, 1011, "closed")                                                                    \
    X(E_LOCKED, 1012, "held by another process")                                                   \
    X(E_REFUSED, 1013, "refused by policy")                                                        \
    X(E_LOW_SPACE, 1014, "too little free disk space")                                             \
    X(E_LATE, 1015, "the disk takes too long")                                                     \
    X(E_FOREIGN, 1016, "a directory of the spool is missing, or belongs elsewhere")                \
    X(E_CUT_OFF, 1017, "ended without a word of the end")                                          \
    X(E_CHANGED, 1018, "the configuration has changed meanwhile")                                  \
    X(E_HOLES, 1019, "a netmask whose ones do not all stand in front")

enum err {
#define ERR_ENUM(name, value, text) name = -(value),
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

/* Text of a negative code of either kind; never NULL, static storage. */
const char *err_text(int code);
