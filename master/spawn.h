/* Starting one program and handing it its part of the configuration. */
#pragma once

#include "master/master.h"

/* Forks and executes the role's program. Returns its pid, with our end of its descriptor 3 in
 * *fd, or a negative error code. */
pid_t spawn_program(const struct master *, enum role, int *fd, struct error *);
/* Sends the part of the configuration. */
void spawn_send_config(struct process *);
/* Sends configuration and listening sockets to a process just started. */
void spawn_configure(struct process *);
