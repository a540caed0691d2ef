/* pool.h - a small thread pool for ltx_session_desc.pool. Copy it into your program.
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

       static pool workers;
       pool_start(&workers, 4);                   four threads: three are created, the caller is the fourth
       desc.threads = 4;
       desc.pool.run = pool_run; desc.pool.user = &workers;
       ...
       pool_stop(&workers);                       after the last call on those sessions

   A pass of a transformer hands out work hundreds of times, often for a few microseconds each. Waking a sleeping thread takes
   longer than that, and threads that only spin starve whoever shares the cores. So a worker that runs out of work looks for
   more for POOL_SPIN_NS, which bridges the gaps inside a pass, and then sleeps.
   One pool serves one thread at a time. POSIX threads, atomics of gcc and clang. Include after ltx.h.                  */

#ifndef LTX_POOL_H
#define LTX_POOL_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <time.h>

enum { POOL_MAX = 256, POOL_SPIN_NS = 40000 };

typedef struct pool {
    uint64_t   ticket;  /* number of the job << 32 | its tasks that nobody has taken yet. One word, so that a worker which
                           comes late cannot take a task of a job it has not seen */
    int32_t    pending; /* tasks of the job that have not returned                                      */
    int32_t    sleepers, stop, threads;
    ltx_task  *task;    /* the job; does not change while a task of it is pending                       */
    void      *arg;
    pthread_mutex_t lock;
    pthread_cond_t  wake;
    pthread_t  thread[POOL_MAX];
} pool;

static inline void pool_pause(void) /* tells the processor that this is a waiting loop */
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
static inline int64_t pool_nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
static inline int pool_idle(pool *p) { return (uint32_t)__atomic_load_n(&p->ticket, __ATOMIC_SEQ_CST) == 0 && !__atomic_load_n(&p->stop, __ATOMIC_SEQ_CST); }

/* Take a task and run it; 0 if none is left. */
static inline int pool_step(pool *p)
{
    uint64_t t = __atomic_load_n(&p->ticket, __ATOMIC_ACQUIRE);
    do {
        if ((uint32_t)t == 0) return 0;
    } while (!__atomic_compare_exchange_n(&p->ticket, &t, t - 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    p->task(p->arg, (int32_t)((uint32_t)t - 1));
    __atomic_sub_fetch(&p->pending, 1, __ATOMIC_RELEASE);
    return 1;
}
static inline void *pool_worker(void *user)
{
    pool *p = (pool *)user;
    while (!__atomic_load_n(&p->stop, __ATOMIC_SEQ_CST)) {
        int64_t begin;
        while (pool_step(p)) { }
        begin = pool_nanoseconds();
        while (pool_idle(p) && pool_nanoseconds() - begin < POOL_SPIN_NS) pool_pause();
        if (!pool_idle(p)) continue;
        pthread_mutex_lock(&p->lock); /* counted as asleep first, looked once more then: pool_run does it the other way round */
        __atomic_add_fetch(&p->sleepers, 1, __ATOMIC_SEQ_CST);
        while (pool_idle(p)) pthread_cond_wait(&p->wake, &p->lock);
        __atomic_sub_fetch(&p->sleepers, 1, __ATOMIC_SEQ_CST);
        pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}
static inline void pool_wake(pool *p)
{
    if (__atomic_load_n(&p->sleepers, __ATOMIC_SEQ_CST) == 0) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}
/* ltx_pool.run: the calling thread works, too, and returns when all tasks have. */
static inline void pool_run(void *user, ltx_task *task, void *arg, int32_t count)
{
    pool *p = (pool *)user;
    int32_t spins = 0;
    if (count == 1) { task(arg, 0); return; }
    p->task = task; p->arg = arg;
    __atomic_store_n(&p->pending, count, __ATOMIC_RELAXED);
    __atomic_store_n(&p->ticket, ((p->ticket >> 32) + 1) << 32 | (uint32_t)count, __ATOMIC_SEQ_CST);
    pool_wake(p);
    while (pool_step(p)) { }
    while (__atomic_load_n(&p->pending, __ATOMIC_ACQUIRE) > 0) {
        if (++spins < 1000) pool_pause();
        else sched_yield(); /* a worker may have lost its core to somebody else: do not keep ours from it */
    }
}
/* `threads` in all, the caller included. Returns how many there are now: fewer if the system gives no more. */
static inline int32_t pool_start(pool *p, int32_t threads)
{
    if (threads > POOL_MAX) threads = POOL_MAX;
    p->ticket = 0; p->pending = p->sleepers = p->stop = 0;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (p->threads = 1; p->threads < threads; p->threads++) if (pthread_create(&p->thread[p->threads], NULL, pool_worker, p) != 0) break;
    return p->threads;
}
static inline void pool_stop(pool *p)
{
    int32_t i;
    __atomic_store_n(&p->stop, 1, __ATOMIC_SEQ_CST);
    pool_wake(p);
    for (i = 1; i < p->threads; i++) pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
}

#endif /* LTX_POOL_H */
