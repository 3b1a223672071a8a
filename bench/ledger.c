#include "bench/ledger.h"

#include "core/base/must.h"

#include <stddef.h>
#include <sys/mman.h>

struct ledger *ledger_create(uint32_t run, uint64_t messages, uint32_t rcpts)
{
    uint64_t cells = messages * rcpts;
    uint64_t bytes = sizeof(struct ledger) + 3 * cells;
    struct ledger *ledger;

    must(rcpts > 0 && messages < UINT64_MAX / 16 / rcpts);
    ledger = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                  -1, 0);
    if (ledger == MAP_FAILED)
        return NULL;
    ledger->run = run;
    ledger->rcpts = rcpts;
    ledger->messages = messages;
    ledger->given = (uint8_t *)(ledger + 1);
    ledger->arrived = ledger->given + cells;
    ledger->refused = ledger->arrived + cells;
    ledger->mapped_bytes = bytes;
    return ledger;
}

void ledger_destroy(struct ledger *ledger)
{
    if (ledger != NULL)
        munmap(ledger, ledger->mapped_bytes);
}

static uint64_t cell_of(const struct ledger *ledger, uint64_t number, uint32_t k)
{
    must(ledger_holds(ledger, number, k));
    return number * ledger->rcpts + k;
}

bool ledger_holds(const struct ledger *ledger, uint64_t number, uint32_t k)
{
    return number < ledger->messages && k < ledger->rcpts;
}

void ledger_give(struct ledger *ledger, uint64_t number, uint32_t k, enum ledger_given given)
{
    ledger->given[cell_of(ledger, number, k)] = (uint8_t)given;
}

void ledger_arrive(struct ledger *ledger, uint64_t number, uint32_t k)
{
    uint64_t at = cell_of(ledger, number, k);
    uint8_t *cell = &ledger->arrived[at];
    uint8_t before = __atomic_load_n(cell, __ATOMIC_RELAXED);

    do {
        if (before == UINT8_MAX)
            return;
    } while (!__atomic_compare_exchange_n(cell, &before, (uint8_t)(before + 1), true,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    if (before != 0)
        return;
    if (__atomic_load_n(&ledger->refused[at], __ATOMIC_RELAXED) != 0)
        __atomic_fetch_sub(&ledger->refused_different, 1, __ATOMIC_RELEASE);
    __atomic_fetch_add(&ledger->arrived_different, 1, __ATOMIC_RELEASE);
}

void ledger_refuse(struct ledger *ledger, uint64_t number, uint32_t k)
{
    uint64_t cell = cell_of(ledger, number, k);

    if (__atomic_exchange_n(&ledger->refused[cell], 1, __ATOMIC_RELAXED) == 0 &&
        __atomic_load_n(&ledger->arrived[cell], __ATOMIC_RELAXED) == 0)
        __atomic_fetch_add(&ledger->refused_different, 1, __ATOMIC_RELEASE);
}

void ledger_sums_add(struct ledger_sums *sums, enum ledger_given given, uint64_t arrived,
                     bool refused)
{
    switch (given) {
    case LEDGER_NOT_GIVEN:
        break;
    case LEDGER_IN_DOUBT:
        sums->in_doubt++;
        break;
    case LEDGER_ACCEPTED:
        sums->accepted++;
        if (arrived == 0 && refused)
            sums->bounced++;
        else if (arrived == 0)
            sums->lost++;
        break;
    case LEDGER_REFUSED:
        sums->turned_away++;
        break;
    }
    if (arrived == 0)
        return;
    sums->arrived++;
    sums->duplicates += arrived - 1;
    if (given == LEDGER_NOT_GIVEN || given == LEDGER_REFUSED)
        sums->unexpected++;
}

void ledger_sum(const struct ledger *ledger, uint64_t first, uint64_t count,
                struct ledger_sums *ret_sums)
{
    uint64_t end = (first + count) * ledger->rcpts;
    struct ledger_sums sums = {0};

    must(first + count <= ledger->messages);
    for (uint64_t cell = first * ledger->rcpts; cell < end; cell++)
        ledger_sums_add(&sums, (enum ledger_given)ledger->given[cell],
                        __atomic_load_n(&ledger->arrived[cell], __ATOMIC_RELAXED),
                        __atomic_load_n(&ledger->refused[cell], __ATOMIC_RELAXED) != 0);
    *ret_sums = sums;
}
