/* Whether the device is a processor, and what its drivers call functions for, written without calls. */

#ifndef PROCESSOR
#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__) || defined(__arm__)
#define PROCESSOR 1
#else
#define PROCESSOR 0
#endif
#endif
