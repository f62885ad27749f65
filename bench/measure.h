/* Clocks and a histogram of durations: octaves of 64 steps each, so that a percentile is off by less than 1.6 %. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

enum { STEPS = 64, OCTAVES = 59 };

struct histogram {
    uint64_t count, most_ns, steps[STEPS * OCTAVES];
    double sum_ns;
};

static inline int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline void pause_ns(int64_t ns) {
    struct timespec time = {ns / 1000000000, ns % 1000000000};
    nanosleep(&time, NULL);
}

/* CPU seconds of this process so far, user and system. */
static inline double own_cpu_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec);
    return s + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static inline void raise_file_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static inline int step_of(uint64_t ns) {
    if (ns < STEPS) return (int)ns;
    int octave = 63 - __builtin_clzll(ns) - 5;
    return octave * STEPS + (int)(ns >> (octave - 1)) - STEPS;
}

static inline uint64_t middle_of(int step) {
    if (step < STEPS) return (uint64_t)step;
    int octave = step / STEPS;
    uint64_t least = (uint64_t)(STEPS + step % STEPS) << (octave - 1);
    return least + ((1ull << (octave - 1)) >> 1);
}

static inline void record_ns(struct histogram *all, int64_t ns) {
    uint64_t value = ns > 0 ? (uint64_t)ns : 0;
    all->count++;
    all->sum_ns += (double)value;
    if (value > all->most_ns) all->most_ns = value;
    all->steps[step_of(value)]++;
}

/* Microseconds under which this share (0..1) of all recorded lies; 0 when nothing was recorded. */
static inline double quantile_us(const struct histogram *all, double share) {
    uint64_t wanted = (uint64_t)(share * (double)all->count), seen = 0;
    if (!all->count) return 0;
    if (wanted >= all->count) wanted = all->count - 1;
    for (int step = 0; step < STEPS * OCTAVES; step++) {
        seen += all->steps[step];
        if (seen > wanted) {
            uint64_t ns = middle_of(step);
            return (double)(ns > all->most_ns ? all->most_ns : ns) / 1000;
        }
    }
    return (double)all->most_ns / 1000;
}

static inline void print_histogram(const char *name, const struct histogram *all) {
    double mean = all->count ? all->sum_ns / (double)all->count / 1000 : 0;
    printf("\"%s\":{\"count\":%lu,\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f},", name,
           (unsigned long)all->count, mean, quantile_us(all, .5), quantile_us(all, .9), quantile_us(all, .99),
           (double)all->most_ns / 1000);
}

#endif
