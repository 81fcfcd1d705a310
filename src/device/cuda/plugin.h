/* plugin.h - finding and loading libacestep-cuda.so, which alone knows CUDA, and saying plainly why it cannot be used.
 *
 * It is searched for beside the program, in the library folder that belongs to it, and in the folder acestep/ beside
 * libacestep; the variable ACESTEP_CUDA_PLUGIN names a file instead, and then no other is tried. A file is only loaded
 * after its outer form was checked, so that a wrong or truncated one is an error and no crash; but what is loaded is
 * code, and is trusted like the program itself. */
#ifndef ACE_DEVICE_CUDA_PLUGIN_H
#define ACE_DEVICE_CUDA_PLUGIN_H

#include <acestep.h>

struct gpu;

/* Zero-initialise. */
typedef struct cuda_plugin {
    void *library;
    const struct gpu *gpu; /* NULL before cuda_plugin_open() */
    bool started;
    int devices; /* GPUs that the driver shows, known once started */
    char path[4096];
} cuda_plugin;

/* Finds and loads the plug-in and checks that it is of this version. No driver is needed for that. `named` is the value
 * of ACESTEP_CUDA_PLUGIN; NULL or "": not set. ACE_ERROR_DEVICE when there is none or it cannot be used. */
bool cuda_plugin_open(cuda_plugin *plugin, const char *named, ace_error *error);

/* Asks the driver for its GPUs, of which there is then at least one. ACE_ERROR_DEVICE says what is missing. */
bool cuda_plugin_start(cuda_plugin *plugin, ace_error *error);

/* A GPU as the plug-in sees it, `free` and `total` in bytes now. Starts its context. */
typedef struct cuda_card {
    char name[96], driver[32];
    int capability[2];
    size_t free, total;
} cuda_card;

bool cuda_plugin_look(const cuda_plugin *plugin, int device, cuda_card *card, ace_error *error);

/* One that was started stays loaded until the process ends, because the driver's threads run in it. */
void cuda_plugin_close(cuda_plugin *plugin);

#endif
