/*
 * category: the bounce category that the accounting shows for an outcome.
 *
 * The user's own patterns (<bounce-category-patterns>) come first, in PowerMTA's way: the first one
 * that matches "X.Y.Z;reply" decides. Then the classifier's rules do; what we ourselves say of an
 * attempt is classified by its status alone. A few microseconds for a bounce or deferral, and none
 * for a delivery unless a pattern of the user's says `success`. Pure functions of their arguments.
 */
#pragma once

#include "core/conf/conf.h"
#include "core/mail/verdict.h"

struct text;

struct category_facts {
    const struct verdict *verdict;
    const struct conf_queue *settings;
    struct slice host; /* MX host, may be empty */
};

/* The enhanced status that is reported: the verdict's own; 5.1.1 for a 553 to a recipient that has
 * none where the settings take that for an unknown mailbox. */
void category_put_status(struct text *text, const struct verdict *verdict,
                         const struct conf_queue *settings);

/* Text of the program or of the snapshot that settings belong to: to be copied within the turn. ""
 * for a delivery without a category. scratch: of the calling thread. */
const char *category_of(const struct category_facts *facts, struct regex_scratch *scratch);
