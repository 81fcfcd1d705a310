/* detect.h - which devices this machine has, how much memory each has and has free, what uses it, and why a card that
 * is there cannot be used. Nothing is linked: NVIDIA's library is loaded at run time, the rest is read from /sys and
 * /proc. Nothing here fails: a machine that tells little gives a report that says little. */
#ifndef ACE_VRAM_DETECT_H
#define ACE_VRAM_DETECT_H

#include <acestep.h>

/* Where the machine is read. Tests put another machine there. */
typedef struct detect_places {
    const char *sys;  /* "/sys" */
    const char *proc; /* "/proc" */
    const char *dev;  /* "/dev" */
    const char *nvml; /* "libnvidia-ml.so.1": NVIDIA's management library */
    const char *cuda; /* "libcuda.so.1": its driver, asked where there is no management library */
    const char *(*variable)(const char *name); /* the environment */
} detect_places;

detect_places detect_system_places(void);

typedef enum detect_kind { DETECT_CPU, DETECT_NVIDIA, DETECT_AMD, DETECT_INTEL } detect_kind;

/* Why a card cannot be used. `detail` of the device holds what is particular to it. */
typedef enum detect_problem {
    DETECT_FINE,
    DETECT_NO_LIBRARY,     /* detail: why the loader did not find NVIDIA's library */
    DETECT_BAD_LIBRARY,    /* detail: the function that it lacks */
    DETECT_INIT_FAILED,    /* detail: what the library said */
    DETECT_MISMATCH,       /* kernel module and library are of different versions */
    DETECT_NO_PERMISSION,  /* detail: the device file */
    DETECT_NO_DEVICE_FILE, /* detail: the device file */
    DETECT_NO_MODULE,      /* no kernel driver holds the card */
    DETECT_OTHER_DRIVER,   /* detail: the driver that holds it (nouveau, vfio-pci) */
    DETECT_NOT_LISTED,     /* the driver runs but does not show this card */
    DETECT_LOST,           /* the card stopped answering; detail: what the library said */
    DETECT_IMPLAUSIBLE,    /* the driver gave numbers that cannot be; detail: which */
    DETECT_SPLIT,          /* MIG: the card is divided into instances */
    DETECT_HIDDEN,         /* CUDA_VISIBLE_DEVICES leaves it out; detail: its value */
    DETECT_REPORT_ONLY,    /* a vendor that no version of this program computes on: shown for information */
    DETECT_PROBLEM_COUNT
} detect_problem;

enum { DETECT_DEVICES = 32, DETECT_USERS = 16 };

typedef struct detect_user {
    int pid;
    char name[64];  /* "" if it cannot be seen (another container) */
    uint64_t bytes; /* 0: the driver does not say */
} detect_user;

typedef struct detect_device {
    detect_kind kind;
    int number;      /* of cards of its kind, as the mapping counts them; -1: none (hidden, unusable) */
    char id[24];     /* "cuda:0", "amd:0", "intel:0", "cpu"; "" without a number */
    char name[96];   /* "NVIDIA GeForce RTX 3060" */
    char pci[20];    /* "0000:65:00.0"; "" if unknown */
    char uuid[96];   /* NVIDIA: "GPU-..."; else "" */
    char driver[80]; /* version of NVIDIA's driver; name of the kernel driver of others */
    bool total_known, free_known;
    bool shared;          /* no memory of its own: it uses the computer's */
    uint64_t total, free; /* bytes; for the CPU what limits (cgroups) leave to this process, without swap */
    int capability[2];    /* CUDA compute capability, {8, 6}; 0: unknown */
    int threads;          /* CPU: how many this process may use */
    bool limited;         /* CPU: a cgroup allows less memory than there is */
    int user_count;       /* programs that hold memory of the card, largest first */
    bool more_users;      /* there are others that are not listed */
    detect_user users[DETECT_USERS];
    detect_problem problem;
    char detail[200];
} detect_device;

typedef struct detect_machine {
    int count;
    bool truncated;                /* there are more devices than are listed */
    detect_problem driver_problem; /* NVIDIA's library is there but shows nothing, nor does the bus */
    char driver_detail[200];
    detect_device devices[DETECT_DEVICES]; /* cards first; the last is the CPU, always there */
} detect_machine;

/* Fills *machine. */
void detect_run(const detect_places *places, detect_machine *machine);

/* The last device. */
const detect_device *detect_cpu(const detect_machine *machine);

static inline double detect_gib(uint64_t bytes)
{
    return (double)bytes / 1073741824.0;
}

#endif
