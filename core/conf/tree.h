/*
 * tree: a configuration as it was written, all files together, every value typed.
 *
 * Parsing knows the table of directives and nothing of what the values are for. Nodes live in the
 * tree's own arena and end with it; values live in the arena of the snapshot to be. One thread.
 */
#pragma once

#include "core/conf/report.h"
#include "core/conf/value.h"

struct entry {
    const struct directive *row;
    bool cleared; /* "" was given: back to the default */
    struct value value;
    const char *text; /* the value as it was written; it and the file's name live as values do */
    const char *file;
    unsigned line;
    struct entry *next;
};

/* A line of a section whose lines are no directives; text lives as long as the values do. */
struct list_line {
    struct slice text; /* without comment and outer blanks, not empty */
    const char *file;
    unsigned line;
    struct list_line *next;
};

struct section {
    const struct section_kind *kind; /* NULL for the top level, and for what is skipped */
    struct slice tag;
    struct slice name;
    const char *file;
    unsigned line;
    bool has_errors; /* lines were refused, or a file was missing: what the section seems to lack
                        may stand there */
    struct entry *entries;
    struct entry *last_entry;
    struct list_line *lines; /* of a section with SCOPE_LINES */
    struct list_line *last_line;
    struct section *children;
    struct section *last_child;
    struct section *next;
    struct section *parent;
};

struct tree {
    struct arena arena;
    struct section top;
    bool has_includes;   /* anywhere */
    const char *missing; /* the first included file that there is not, with syntax_only; or NULL */
};

/*
 * Both report every finding; errors are counted by the report. 0, or -errno when path itself
 * cannot be read. The tree is to be ended with tree_fini in any case.
 */
int tree_parse_file(struct tree *tree, const char *path, const struct conf_load_options *options,
                    struct arena *values, struct report *report);
int tree_parse_text(struct tree *tree, const char *name, struct slice text,
                    const struct conf_load_options *options, struct arena *values,
                    struct report *report);
void tree_fini(struct tree *tree);
