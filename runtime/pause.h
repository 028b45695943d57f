/* What a thread does between two looks at what another one will write. */
#ifndef NNCC_PAUSE_H
#define NNCC_PAUSE_H

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ __volatile__("yield")
#else
#define PAUSE() ((void)0)
#endif

#endif
