/*
 * dkim_sign: "ringpost dkim-sign": signs a message on standard input by hand, with the code that
 * the daemon signs with. For operators who debug, and for test vectors. Talks to no daemon.
 */
#pragma once

/* argv: the words behind "dkim-sign". The exit code: 0 signed, 1 the key or the message is not fit
 * for it, 2 usage. */
int dkim_sign_run(int argc, char **argv);
