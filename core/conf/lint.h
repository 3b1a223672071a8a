/*
 * lint: what is right by the letter and hardly meant so; private to core/conf.
 *
 * Runs over a tree that made a snapshot without errors, for `test config` alone: it may take its
 * time. What it finds is a warning with file and line, or a note about the provider pack
 * without a line. One thread.
 */
#pragma once

#include "core/conf/build.h"

/* 0, or -ENOMEM. */
int lint_all(struct build *build);

/* Names of lists, virtual MTAs, proxies and files that do not exist; lists and macros that nothing
 * uses. -ENOMEM or 0. */
int lint_references(struct build *build);
/* Blocks and lines that another one makes void. */
int lint_shadows(struct build *build);
/* Limits that contradict each other, or do nothing; spans that are too short to mean much. */
int lint_limits(struct build *build);
/* What the pack of providers would change if it were on: notes, no warnings. */
void lint_pack(struct build *build);
/* Reports about TLS without a key to sign them, or without a virtual MTA of their own. */
void lint_reports(struct build *build);
/* Lines of lists that can never be reached. */
int lint_lists(struct build *build);
