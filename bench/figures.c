#include "bench/figures.h"

#include "core/base/must.h"

#include <math.h>
#include <stdlib.h>

static const struct {
    const char *name;
    const char *unit;
    int decimals;
} table[FIGURE_COUNT] = {
#define FIGURE_ROW(name, unit, decimals) {#name, unit, decimals},
    FIGURES(FIGURE_ROW)
#undef FIGURE_ROW
};

struct spread {
    double low;
    double median;
    double high;
};

void figures_clear(struct figures *figures)
{
    for (int i = 0; i < FIGURE_COUNT; i++)
        figures->of[i] = NAN;
}

void figures_add(struct figures_series *series, const struct figures *figures)
{
    must(series->count < FIGURES_RUNS_MAX);
    series->runs[series->count++] = *figures;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static struct spread spread_of(const struct figures_series *series, enum figure figure)
{
    struct spread spread = {NAN, NAN, NAN};
    double values[FIGURES_RUNS_MAX];
    uint32_t count = 0;

    for (uint32_t run = 0; run < series->count; run++) {
        if (!isnan(series->runs[run].of[figure]))
            values[count++] = series->runs[run].of[figure];
    }
    if (count == 0)
        return spread;
    qsort(values, count, sizeof(values[0]), by_value);
    spread.low = values[0];
    spread.high = values[count - 1];
    spread.median = (values[(count - 1) / 2] + values[count / 2]) / 2;
    return spread;
}

double figures_median(const struct figures_series *series, enum figure figure)
{
    return spread_of(series, figure).median;
}

double figures_faults(const struct figures_series *series)
{
    double faults = 0;

    for (uint32_t run = 0; run < series->count; run++)
        faults += series->runs[run].of[FIGURE_lost] + series->runs[run].of[FIGURE_duplicates] +
                  series->runs[run].of[FIGURE_damaged];
    return faults;
}

void figures_print(const struct figures_series *series, FILE *stream)
{
    fprintf(stream, "%s: %u run%s\n", series->name, series->count, series->count == 1 ? "" : "s");
    for (int i = 0; i < FIGURE_COUNT; i++) {
        struct spread spread = spread_of(series, (enum figure)i);
        int decimals = table[i].decimals;

        if (isnan(spread.median))
            fprintf(stream, "  %12s  %s\n", "n/a", table[i].unit);
        else if (series->count == 1)
            fprintf(stream, "  %12.*f  %s\n", decimals, spread.median, table[i].unit);
        else
            fprintf(stream, "  %12.*f  %-32s (%.*f .. %.*f)\n", decimals, spread.median,
                    table[i].unit, decimals, spread.low, decimals, spread.high);
    }
}

/* JSON knows no NAN. */
static void print_value(FILE *stream, int figure, double value, const char *separator)
{
    if (isnan(value))
        fprintf(stream, "%s\"%s\":null", separator, table[figure].name);
    else
        fprintf(stream, "%s\"%s\":%.6g", separator, table[figure].name, value);
}

static void print_spreads(const struct figures_series *series, FILE *stream)
{
    static const char *const names[] = {"median", "min", "max"};

    for (int kind = 0; kind < 3; kind++) {
        fprintf(stream, ",\"%s\":{", names[kind]);
        for (int i = 0; i < FIGURE_COUNT; i++) {
            struct spread spread = spread_of(series, (enum figure)i);
            double values[3] = {spread.median, spread.low, spread.high};

            print_value(stream, i, values[kind], i == 0 ? "" : ",");
        }
        fprintf(stream, "}");
    }
}

void figures_print_json(const struct figures_series *series, FILE *stream)
{
    fprintf(stream, "{\"name\":\"%s\",\"runs\":[", series->name);
    for (uint32_t run = 0; run < series->count; run++) {
        fprintf(stream, "%s{", run == 0 ? "" : ",");
        for (int i = 0; i < FIGURE_COUNT; i++)
            print_value(stream, i, series->runs[run].of[i], i == 0 ? "" : ",");
        fprintf(stream, "}");
    }
    fprintf(stream, "]");
    print_spreads(series, stream);
    fprintf(stream, "}");
}
