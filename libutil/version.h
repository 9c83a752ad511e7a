/* The release these sources are: `veredus version`, and the line in the log with which it starts.
 */
#pragma once

#define VEREDUS_VERSION "0.9.0"
