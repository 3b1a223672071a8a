#include "bench/models.h"

#include "core/base/must.h"

#include <string.h>

const struct model models[] = {
    {"yes-sayer", "takes everything at once", "offer pipelining chunking 8bitmime size\n"},
    {"gmail-like", "slow acceptance, few connections, 4.7.28 with a long rest",
     "offer pipelining chunking 8bitmime enhancedstatuscodes size\n"
     "connect connections=20 421 4.7.0 Too many connections from your address\n"
     "mail messages=100 421 4.7.0 Enough for one connection, open another\n"
     "rcpt percent=0.3 550 5.1.1 The account that you tried to reach does not exist\n"
     "rcpt percent=0.2 452 4.2.2 The recipient's inbox is out of storage space\n"
     "rcpt per=rcpt rate=30/60 450 4.2.1 This user is receiving mail too quickly\n"
     "dot delay=20-200\n"
     /* The limit is on what arrives, not on tries: it is told behind the dot. */
     "dot rate=3000/60 penalty=600 421 4.7.28 Unusual rate of mail from your address."
     "\\nIt has been limited for a while\n"},
    {"yahoo-like", "closes without a word after 20 messages, TSS04 with a rest of two hours",
     "offer pipelining 8bitmime size\n"
     "connect connections=10 421 4.7.0 Too many connections from your address\n"
     "mail rate=2000/60 penalty=7200 421 4.7.0 [TSS04] Messages from your address are deferred\n"
     "mail percent=0.2 451 4.3.2 Resources temporarily unavailable\n"
     "rcpt percent=0.3 554 5.7.1 This user has no account here\n"
     "dot delay=10-100\n"
     "dot messages=19 close\n"},
    {"microsoft-like", "hard caps on connections, busy by the hour, 550 for unknown users",
     "offer pipelining chunking 8bitmime enhancedstatuscodes size\n"
     "connect delay=20-80\n"
     "connect connections=50 close 451 4.7.652 Too many concurrent connections from your address\n"
     "connect total=500 421 4.3.2 The maximum number of concurrent connections is exceeded\n"
     "connect rate=600/60 421 4.7.0 RP-001 The rate from your address is limited\n"
     "mail messages=50 421 4.7.0 Too many messages on this connection\n"
     "mail rate=1800/60 penalty=1800 451 4.7.650 Your address is limited by its reputation\n"
     "rcpt percent=0.3 550 5.5.0 Requested action not taken: mailbox unavailable\n"
     "rcpt percent=0.1 451 4.7.500 Server busy, try again later\n"
     "dot delay=100-600\n"},
    {"tarpit", "a late banner, seconds for every reply, few connections",
     "offer pipelining 8bitmime size\n"
     "connect delay=3000-10000\n"
     "connect connections=3 421 4.7.0 Too many connections\n"
     "ehlo delay=1000-3000\n"
     "mail delay=500-2000\n"
     "rcpt delay=500-2000\n"
     "data delay=500-2000\n"
     "dot delay=2000-6000\n"},
    {"greylister", "450 to whoever is seen for the first time, for five minutes",
     "offer pipelining 8bitmime enhancedstatuscodes size\n"
     "rcpt grey=300 450 4.7.1 Greylisted, come back in five minutes\n"},
    {"dying", "well, then slow, then overloaded, then gone; anew every ten minutes",
     "offer pipelining 8bitmime size\n"
     "dot period=600 after=120 until=240 delay=500-2000\n"
     "mail period=600 after=200 until=300 percent=30 451 4.3.2 System overloaded\n"
     "any period=600 after=240 until=300 percent=5 drop\n"
     "any period=600 after=280 until=300 421 4.3.2 Shutting down\n"
     "connect period=600 after=300 until=420 reset\n"
     "connect period=600 after=420 until=480 delay=2000-5000\n"},
    {"hostile", "garbage, floods, broken replies and connections at every point",
     "offer pipelining 8bitmime size\n"
     "connect percent=1 say 2x0 \\x01\\xff\\x00 no banner\n"
     "connect percent=1 close 554 5.7.1 Go away\n"
     "connect percent=1 cut=2\n"
     "connect percent=2 delay=2000-6000\n"
     "connect percent=0.2 hang\n"
     "ehlo percent=1 flood\n"
     "ehlo percent=1 502 5.5.1 What is EHLO\n"
     "ehlo percent=1 say 250-first\\r\\n550 second\n"
     "mail percent=1 say 99\n"
     "mail percent=1 close\n"
     "rcpt percent=1 cut=2\n"
     "rcpt percent=1 say 250-no end\n"
     "data percent=1 250 2.0.0 Not the reply that belongs here\n"
     "data percent=1 cut=3\n"
     "content percent=1 reset\n"
     "content percent=1 drop\n"
     "dot percent=1 drop\n"
     "dot percent=1 cut=0\n"
     "dot percent=1 cut=3\n"
     "dot percent=1 say \\x00\\x00\n"
     "dot percent=1 close 250 2.0.0 Ok, and good bye\n"
     "dot percent=1 421 4.3.2 Not taken, and good bye\n"
     "any percent=0.5 reset\n"},
};
const size_t model_count = sizeof(models) / sizeof(models[0]);

const struct model *model_find(const char *name)
{
    for (size_t i = 0; i < model_count; i++) {
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
    }
    return NULL;
}

void model_add(const struct model *model, struct rules *rules)
{
    unsigned line;

    must(rules_add_text(rules, model->text, &line) == 0);
}
