#include "shard/policy/scope.h"

#include "core/base/hash.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

static struct ipaddr ip_of(const char *text)
{
    struct ipaddr ip;

    assert_int_equal(ipaddr_parse(slice_str(text), &ip), 0);
    return ip;
}

/* Each scope of a limit tells apart what differs in it, and nothing else does. */
static void scopes_tell_apart(void **state)
{
    struct ipaddr one = ip_of("192.0.2.1"), two = ip_of("192.0.2.2");
    const struct scope_facts base = {
        .vmta_id = 1,
        .pool_id = 2,
        .provider = 3,
        .tenant = 5,
        .source = &one,
        .domain = SLICE_LITERAL("d.test"),
        .mail = {.job = scope_value(SLICE_LITERAL("j")),
                 .sender_domain = scope_value(SLICE_LITERAL("s.test")),
                 .user = scope_value(SLICE_LITERAL("u"))},
    };

    (void)state;
    for (uint32_t scopes = 0; scopes < 1u << CONF_SCOPES; scopes++) {
        const struct conf_limit limit = {.id = 5, .scopes = scopes};
        struct meter_key key = scope_key(&limit, &base);

        for (unsigned i = 0; i < CONF_SCOPES; i++) {
            struct scope_facts facts = base;
            struct meter_key other;

            switch (1u << i) {
            case CONF_SCOPE_VMTA:
                facts.vmta_id = 2;
                break;
            case CONF_SCOPE_POOL:
                facts.pool_id = 1;
                break;
            case CONF_SCOPE_SOURCE_IP:
                facts.source = &two;
                break;
            case CONF_SCOPE_PROVIDER:
                facts.provider = 4;
                break;
            case CONF_SCOPE_TENANT:
                facts.tenant = 3;
                break;
            case CONF_SCOPE_DOMAIN:
                facts.domain = slice_str("e.test");
                break;
            case CONF_SCOPE_JOB:
                facts.mail.job = scope_value(slice_str("u"));
                break;
            case CONF_SCOPE_SENDER_DOMAIN:
                facts.mail.sender_domain = scope_value(slice_str("d.test"));
                break;
            default:
                facts.mail.user = scope_value(slice_str("j"));
                break;
            }
            other = scope_key(&limit, &facts);
            assert_int_equal(scope_key_equal(&key, &other), (scopes & 1u << i) == 0);
        }
    }
}

/* Whatever the order in which they are added. */
static void one_order(void **state)
{
    const struct meter_key keys[] = {
        {1, CONF_SCOPE_JOB, 1},      {1, CONF_SCOPE_PROVIDER | CONF_SCOPE_SOURCE_IP, 1},
        {2, CONF_SCOPE_PROVIDER, 1}, {3, CONF_SCOPE_PROVIDER, 1},
        {3, CONF_SCOPE_PROVIDER, 2}, scope_key_of_vmta(7),
    };
    const uint32_t count = sizeof(keys) / sizeof(keys[0]);

    (void)state;
    for (uint32_t turn = 0; turn < 720; turn++) {
        struct scope_list list = {.count = 0};
        uint32_t left[6] = {0, 1, 2, 3, 4, 5}, rest = turn;

        for (uint32_t n = count; n > 0; rest /= n, n--) {
            uint32_t at = rest % n;

            assert_true(scope_add(&list, &keys[left[at]]));
            assert_true(scope_add(&list, &keys[left[at]]));
            left[at] = left[n - 1];
        }
        assert_int_equal(list.count, count);
        for (uint32_t i = 0; i < count; i++)
            assert_true(scope_key_equal(&list.keys[i], &keys[i]));
    }
}

static void lists(void **state)
{
    struct scope_list list = {.count = 0}, other = {.count = 0};

    (void)state;
    assert_true(scope_list_hash(&list) == 0);
    for (uint32_t i = 0; i < SCOPE_METERS_MAX; i++) {
        struct meter_key key = {i, CONF_SCOPE_DOMAIN, i};

        assert_true(scope_add(&list, &key));
        assert_true(scope_list_hash(&list) != scope_list_hash(&other));
        assert_true(scope_add(&other, &key));
        assert_true(scope_list_hash(&list) == scope_list_hash(&other));
    }
    assert_false(scope_add(&list, &(struct meter_key){99, CONF_SCOPE_DOMAIN, 1}));
    assert_int_equal(list.count, SCOPE_METERS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scopes_tell_apart),
        cmocka_unit_test(one_order),
        cmocka_unit_test(lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
