#include "core/conf/directives.h"

#define NAME_MAX_OCTETS 64

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Letters to insert, delete, replace or swap with their neighbour to turn a into b. */
static unsigned distance(struct slice a, struct slice b)
{
    unsigned rows[3][NAME_MAX_OCTETS + 1];
    unsigned *before = rows[0];
    unsigned *above = rows[1];
    unsigned *row = rows[2];

    for (unsigned j = 0; j <= b.len; j++)
        above[j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned *spare = before;

        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            uint8_t x = slice_lower_octet(a.data[i - 1]);
            uint8_t y = slice_lower_octet(b.data[j - 1]);

            row[j] = least(least(above[j] + 1, row[j - 1] + 1), above[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == slice_lower_octet(b.data[j - 2]) &&
                y == slice_lower_octet(a.data[i - 2]))
                row[j] = least(row[j], before[j - 2] + 1);
        }
        before = above;
        above = row;
        row = spare;
    }
    return above[b.len];
}

struct nearest {
    struct slice wanted;
    const char *name;
    unsigned distance;
};

/* A third of the letters may be wrong; beyond that a hint would be a guess. */
static void nearest_init(struct nearest *nearest, struct slice wanted)
{
    *nearest = (struct nearest){.wanted = wanted, .distance = 1 + (unsigned)wanted.len / 3};
}

static void nearest_offer(struct nearest *nearest, const char *name)
{
    struct slice candidate = slice_str(name);
    unsigned away;

    if (candidate.len > NAME_MAX_OCTETS || nearest->wanted.len > NAME_MAX_OCTETS)
        return;
    away = distance(nearest->wanted, candidate);
    if (away < nearest->distance) {
        nearest->distance = away;
        nearest->name = name;
    }
}

const char *directive_nearest(struct slice name, enum scope scope)
{
    struct nearest nearest;

    nearest_init(&nearest, name);
    for (uint32_t i = 0; i < directive_count(); i++) {
        if ((directive_at(i)->scopes & SCOPE_BIT(scope)) != 0 &&
            directive_at(i)->effect != EFFECT_REFUSED)
            nearest_offer(&nearest, directive_at(i)->name);
    }
    return nearest.name;
}

const char *section_nearest(struct slice tag)
{
    struct nearest nearest;

    nearest_init(&nearest, tag);
    for (uint32_t i = 0; i < section_count(); i++) {
        if (section_at(i)->effect != EFFECT_REFUSED)
            nearest_offer(&nearest, section_at(i)->tag);
    }
    return nearest.name;
}
