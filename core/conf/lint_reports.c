/* Reports about TLS that would not be sent, or that would be about themselves. */
#include "core/conf/dkim.h"
#include "core/conf/lint.h"

static bool has_key(const struct conf *conf, uint32_t vmta_id, struct slice domain)
{
    return conf_domain_key(conf, vmta_id, domain, CONF_DKIM_RSA_SHA256, SLICE_EMPTY) != NULL ||
           conf_domain_key(conf, vmta_id, domain, CONF_DKIM_ED25519, SLICE_EMPTY) != NULL;
}

void lint_reports(struct build *build)
{
    const struct conf *conf = build->conf;
    const struct conf_global *global = &conf->global;
    const char *file = build->tree->top.file, *vmta = global->tls_report_vmta;
    struct slice domain;
    char room[256];

    if (global->tls_report_from == NULL)
        return;
    if (vmta == NULL)
        report_warning(build->report, file, 0,
                       "tls-report-from without tls-report-virtual-mta: the connections that bring "
                       "the reports are counted in them");
    domain = slice_str(global->tls_report_from);
    domain = slice_after(domain, slice_find(domain, '@'));
    if (domain.len <= 1 || domain.len > sizeof(room))
        return;
    domain = slice_lower(slice_after(domain, 1), room);
    /* Without their files keys are not known. */
    if (!build->options->syntax_only &&
        !has_key(conf, vmta ? conf_vmta_id(conf, slice_str(vmta)) : CONF_VMTA_DEFAULT, domain))
        report_warning(build->report, file, 0,
                       "tls-report-from: there is no domain-key for %.*s, and no report is sent "
                       "that is not signed",
                       (int)domain.len, (const char *)domain.data);
}
