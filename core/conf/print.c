#include "core/conf/conf.h"
#include "core/conf/directives.h"
#include "core/conf/value.h"

#include <string.h>

/* The pages about keywords are made from the table, so that the two cannot differ. */

static const char *const reload_words[] = {
    [RELOAD_LIVE] = "live",
    [RELOAD_DRAIN] = "drain",
    [RELOAD_RESTART] = "restart",
};

static const char introduction[] =
    "# Directives\n"
    "\n"
    "This page is generated from the table of directives; do not edit it by hand.\n"
    "\n"
    "A configuration consists of lines `keyword value` and of sections `<tag name>` ... `</tag>`.\n"
    "Keywords are known whatever their case. `#` starts a comment anywhere in a line, even within\n"
    "quotes. `\"\"` takes an inherited value back to its default. Lists go on in the next line\n"
    "after a comma. A tag may share its line with what it holds. An unknown keyword is an error.\n"
    "The file is UTF-8. What only looks like a blank, as in text from web pages, counts as one, "
    "and\n"
    "what cannot be seen does not count; a warning says where. Typographic quotes quote nothing.\n"
    "\n"
    "Column *reload*, what `ringpost reload` and SIGHUP do with a changed value: `live` values "
    "count\n"
    "from their next use on, `drain` values for new connections, `restart` values after a "
    "restart;\n"
    "until then the running value stays, and the reload says so. Column *effect*: `yes`; `not yet` "
    "for what is\n"
    "checked and then reported as having no effect so far; `never` for what is ignored for good;\n"
    "`refused` for what guides mention and no PowerMTA ever knew.\n"
    "Keywords marked with a star are ringpost's own.\n";

/* A bar would end the table's cell. */
static void print_cell(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fprintf(out, *text == '|' ? "\\|" : "%c", *text);
}

static void print_types(FILE *out)
{
    fprintf(out, "\n## Values\n\n| value | how it is written |\n|---|---|\n");
    for (unsigned type = 0; type < TYPE_COUNT_OF_TYPES; type++)
        fprintf(out, "| %s | %s |\n", type_title(type), type_doc(type));
}

/* ---- The summary --------------------------------------------------------------------------- */

struct tally {
    unsigned by_effect[EFFECT_COUNT];
};

static void tally_scope(struct tally *tally, enum scope scope, bool ours)
{
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);

        /* What may stand everywhere counts once. */
        if (row->type == TYPE_INCLUDE && scope != SCOPE_GLOBAL)
            continue;
        if ((row->scopes & SCOPE_BIT(scope)) != 0 && ((row->flags & FLAG_OURS) != 0) == ours)
            tally->by_effect[row->effect]++;
    }
}

static void print_tally(FILE *out, const char *what, const struct tally *tally)
{
    const unsigned *n = tally->by_effect;
    unsigned known = n[EFFECT_DONE] + n[EFFECT_LATER] + n[EFFECT_IGNORED];

    fprintf(out, "| %s | %u | %u | %u | %u | %u |\n", what, known, n[EFFECT_DONE], n[EFFECT_LATER],
            n[EFFECT_IGNORED], n[EFFECT_REFUSED]);
}

/* A keyword counts once for each kind of section that it may stand in. */
static void print_summary(FILE *out)
{
    struct tally all = {0};
    struct tally ours = {0};
    struct tally tags = {0};
    unsigned acting;

    fprintf(out, "\n## Summary\n\n| | known | in effect | not yet | ignored | refused |\n"
                 "|---|---|---|---|---|---|\n");
    for (unsigned scope = 0; scope < SCOPE_COUNT; scope++) {
        struct tally tally = {0};
        char title[80];

        if (scope == SCOPE_LINES)
            continue;
        tally_scope(&tally, scope, false);
        tally_scope(&all, scope, false);
        tally_scope(&ours, scope, true);
        snprintf(title, sizeof(title), scope == SCOPE_GLOBAL ? "%s" : "`%s`", scope_title(scope));
        print_tally(out, title, &tally);
    }
    for (uint32_t i = 0; i < section_count(); i++)
        tags.by_effect[section_at(i)->effect]++;
    print_tally(out, "PowerMTA's keywords in all", &all);
    print_tally(out, "ringpost's own keywords", &ours);
    print_tally(out, "sections", &tags);
    acting = all.by_effect[EFFECT_DONE] + all.by_effect[EFFECT_LATER];
    fprintf(out,
            "\nA keyword counts once in each kind of section that it may stand in. Of PowerMTA's "
            "keywords\nthat are to act, %u of %u do: %u %%.\n",
            all.by_effect[EFFECT_DONE], acting, 100 * all.by_effect[EFFECT_DONE] / acting);
}

/* ---- Rows ---------------------------------------------------------------------------------- */

static void print_effect(FILE *out, enum directive_effect effect, const char *reason)
{
    if (effect == EFFECT_IGNORED)
        fprintf(out, " never: %s |", reason);
    else if (effect == EFFECT_REFUSED)
        fprintf(out, " refused |");
    else
        fprintf(out, effect == EFFECT_DONE ? " yes |" : " not yet |");
}

static void print_value(FILE *out, const struct directive *row)
{
    char range[80];

    if (row->choices != NULL) {
        fputs(" `", out);
        print_cell(out, row->choices);
        fputs("` |", out);
    } else if (value_range(row, range, sizeof(range))) {
        fprintf(out, " %s, %s |", type_title(row->type), range);
    } else {
        fprintf(out, " %s |", type_title(row->type));
    }
}

static void print_row(FILE *out, const struct directive *row)
{
    fprintf(out, "| `%s`%s |", row->name, (row->flags & FLAG_OURS) != 0 ? " *" : "");
    print_value(out, row);
    if (row->preset != NULL)
        fprintf(out, " `%s` |", row->preset);
    else
        fprintf(out, " |");
    fprintf(out, "%s | %s |", (row->flags & FLAG_REPEAT) != 0 ? " yes" : "",
            reload_words[row->reload]);
    print_effect(out, row->effect, row->reason);
    if (row->effect == EFFECT_REFUSED) {
        fputc(' ', out);
        print_cell(out, row->reason);
        fprintf(out, " |\n");
    } else {
        fprintf(out, " %s |\n", row->doc);
    }
}

static void print_scope(FILE *out, enum scope scope)
{
    fprintf(out, "\n| keyword | value | default | repeat | reload | effect | what it does |\n"
                 "|---|---|---|---|---|---|---|\n");
    for (uint32_t i = 0; i < directive_count(); i++) {
        if ((directive_at(i)->scopes & SCOPE_BIT(scope)) != 0)
            print_row(out, directive_at(i));
    }
}

static void print_section(FILE *out, const struct section_kind *kind)
{
    fprintf(out, "\n## <%s%s%s>\n\n%s\n", kind->tag, kind->argument[0] != '\0' ? " " : "",
            kind->argument, kind->doc);
    fprintf(out, "May stand in:");
    for (unsigned scope = 0; scope < SCOPE_COUNT; scope++) {
        if ((kind->parents & SCOPE_BIT(scope)) != 0)
            fprintf(out, " %s.", scope_title(scope));
    }
    fputc('\n', out);
    if (kind->effect == EFFECT_IGNORED)
        fprintf(out, "Ignored for good: %s.\n", kind->reason);
    else if (kind->effect == EFFECT_LATER)
        fprintf(out, "No effect yet.\n");
    else if (kind->effect == EFFECT_REFUSED)
        fprintf(out, "Refused: %s.\n", kind->reason);
    if (kind->scope == SCOPE_LINES)
        fprintf(out, "Its lines are no directives, apart from `include`.\n");
    else
        print_scope(out, kind->scope);
}

void conf_directives_print(FILE *out)
{
    fputs(introduction, out);
    print_summary(out);
    print_types(out);
    fprintf(out, "\n## Top level\n");
    print_scope(out, SCOPE_GLOBAL);
    for (uint32_t i = 0; i < section_count(); i++)
        print_section(out, section_at(i));
}
