/* remote_int: the handlers of both kinds of remote programs, for remote.c. */
#pragma once

#include "tests/sim/product/remote.h"

extern const struct sim_peer_handlers receiver_handlers;
extern const struct sim_peer_handlers injector_handlers;
extern const struct sim_peer_handlers postbox_handlers;
