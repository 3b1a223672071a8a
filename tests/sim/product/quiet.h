/*
 * quiet: what the programs share that play scenes without planted bugs: none is on, and the
 * product's log is not shown.
 */
#pragma once

/* From here on nothing that the product logs is seen. */
void quiet_log(void);
