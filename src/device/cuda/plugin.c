#include "device/cuda/plugin.h"

#include "base/error.h"
#include "base/file.h"
#include "device/cuda/gpu.h"

#include <dlfcn.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "libacestep-cuda.so"
#define VARIABLE "ACESTEP_CUDA_PLUGIN"
#ifndef ACE_CUDA_PLUGIN_FOLDER /* seen from the program's folder; the build system tells it */
#define ACE_CUDA_PLUGIN_FOLDER "../lib/acestep"
#endif

static const char INSTALL[] = "build it on a computer with the CUDA toolkit (cmake -DACE_CUDA=ON) and install it";

/* ---- finding it ---------------------------------------------------------------------------------------------- */

/* "folder/name/libacestep-cuda.so" into `path`; true when there is such a file. */
static bool try_folder(const char *folder, const char *name, char path[4096])
{
    int n = snprintf(path, 4096, "%s/%s%s" FILE_NAME, folder, name, *name ? "/" : "");
    return n > 0 && n < 4096 && ace_path_exists(path);
}

static bool beside_program(char path[4096])
{
    char folder[4096];
    ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (n <= 0) return false;
    folder[n] = '\0';
    char *slash = strrchr(folder, '/');
    if (!slash) return false;
    *slash = '\0';
    return try_folder(folder, "", path) || try_folder(folder, ACE_CUDA_PLUGIN_FOLDER, path);
}

/* Where another program uses libacestep, it is its place that counts. */
static bool beside_library(char path[4096])
{
    static const char here = 0;
    char folder[4096];
    Dl_info info;
    if (!dladdr(&here, &info) || !info.dli_fname || !strchr(info.dli_fname, '/')) return false;
    snprintf(folder, sizeof folder, "%s", info.dli_fname);
    *strrchr(folder, '/') = '\0';
    return try_folder(folder, "acestep", path) || try_folder(folder, "", path);
}

static bool find(const char *named, char path[4096], ace_error *error)
{
    if (named && *named) {
        if (strlen(named) >= 4096)
            return ace_fail(error, ACE_ERROR_DEVICE, "the path in " VARIABLE " is longer than any path can be");
        snprintf(path, 4096, "%s%s", strchr(named, '/') ? "" : "./", named); /* never the loader's own search */
        return ace_path_exists(path) || ace_fail(error, ACE_ERROR_DEVICE,
                                                 "there is no file '%.600s', which " VARIABLE
                                                 " names as the plug-in for NVIDIA GPUs: correct or unset it",
                                                 named);
    }
    return beside_program(path) || beside_library(path) ||
           ace_fail(error, ACE_ERROR_DEVICE,
                    "the plug-in for NVIDIA GPUs (" FILE_NAME ") is not installed: %s, or name it in " VARIABLE,
                    INSTALL);
}

/* ---- its outer form ------------------------------------------------------------------------------------------ */

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#else
enum { MACHINE = EM_NONE }; /* unknown here: the loader says it */
#endif

/* What is wrong with the file, NULL: nothing. The loader maps what the headers say without asking whether the file has
 * it, so that one cut short would kill the process. */
static const char *outer_problem(const uint8_t *data, size_t size)
{
    enum { PARTS = 64 };
    static const char cut[] = "it is cut short or damaged";
    Elf64_Ehdr header;
    if (size < EI_NIDENT || memcmp(data, ELFMAG, SELFMAG) != 0) return "it is no shared library";
    if (size < sizeof header) return cut;
    memcpy(&header, data, sizeof header);
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_type != ET_DYN ||
        (MACHINE != EM_NONE && header.e_machine != MACHINE))
        return "it is no shared library for this kind of computer";
    if (header.e_phoff != sizeof header || header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > PARTS)
        return cut;
    bool dynamic = false, loads = false;
    for (size_t i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr part;
        if (header.e_phoff > size || (i + 1) * sizeof part > size - header.e_phoff) return cut;
        memcpy(&part, data + header.e_phoff + i * sizeof part, sizeof part);
        if (part.p_type == PT_NULL || part.p_filesz == 0) continue;
        if (part.p_offset > size || part.p_filesz > size - part.p_offset) return cut;
        if (part.p_type == PT_LOAD && part.p_filesz > part.p_memsz) return cut;
        dynamic |= part.p_type == PT_DYNAMIC;
        loads |= part.p_type == PT_LOAD;
    }
    return dynamic && loads ? NULL : "it is no shared library";
}

static bool check_file(const char *path, ace_error *error)
{
    struct stat info;
    ace_map map;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode))
        return ace_fail(error, ACE_ERROR_DEVICE, "the plug-in for NVIDIA GPUs '%.600s' is no file", path);
    if (!ace_map_open(&map, path, error)) return false;
    const char *problem = outer_problem(map.data, map.size);
    ace_map_close(&map);
    return !problem || ace_fail(error, ACE_ERROR_DEVICE, "'%.600s' cannot be the plug-in for NVIDIA GPUs: %s: %s", path,
                                problem, INSTALL);
}

/* ---- loading it ---------------------------------------------------------------------------------------------- */

/* Every member behind the number is a pointer. */
static bool is_complete(const gpu *functions)
{
    const char *at = (const char *)functions + offsetof(gpu, message), *end = (const char *)(functions + 1);
    for (; at < end; at += sizeof(void *)) {
        void *pointer;
        memcpy(&pointer, at, sizeof pointer);
        if (!pointer) return false;
    }
    return true;
}

/* The functions of a library that is loaded; NULL with the error. */
static const gpu *functions_of(void *library, const char *path, ace_error *error)
{
    const gpu *(*entry)(void) = NULL;
    void *symbol = dlsym(library, "acestep_gpu");
    memcpy(&entry, &symbol, sizeof entry); /* POSIX: a function's address fits in void * */
    const gpu *functions = entry ? entry() : NULL;
    if (!functions) {
        ace_fail(error, ACE_ERROR_DEVICE, "'%.600s' is a library, but not the plug-in for NVIDIA GPUs: %s", path,
                 INSTALL);
    } else if (functions->abi != GPU_ABI) {
        ace_fail(error, ACE_ERROR_DEVICE,
                 "the plug-in '%.600s' is of another version of this program (its interface is number %d, this one's "
                 "is %d): install both from the same build",
                 path, functions->abi, (int)GPU_ABI);
    } else if (!is_complete(functions)) {
        ace_fail(error, ACE_ERROR_DEVICE, "the plug-in '%.600s' lacks functions: install it again", path);
    } else {
        return functions;
    }
    return NULL;
}

bool cuda_plugin_open(cuda_plugin *plugin, const char *named, ace_error *error)
{
    if (plugin->gpu) return true;
    if (!find(named, plugin->path, error) || !check_file(plugin->path, error)) return false;
    plugin->library = dlopen(plugin->path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin->library) {
        const char *why = dlerror();
        return ace_fail(error, ACE_ERROR_DEVICE, "the plug-in for NVIDIA GPUs cannot be loaded: %.700s: %s",
                        why ? why : plugin->path, INSTALL);
    }
    plugin->gpu = functions_of(plugin->library, plugin->path, error);
    if (!plugin->gpu) cuda_plugin_close(plugin);
    return plugin->gpu != NULL;
}

/* What the loader says of the driver's own library: "" when it is there. */
static void driver_problem(char text[300])
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    const char *why = driver ? NULL : dlerror();
    snprintf(text, 300, "%s%.250s%s", why ? " (the loader says: " : "", why ? why : "", why ? ")" : "");
    /* not closed: the driver may have threads by now */
}

bool cuda_plugin_start(cuda_plugin *plugin, ace_error *error)
{
    int code = 0;
    char driver[300];
    plugin->started = true; /* whatever comes of it */
    if (plugin->devices == 0) code = plugin->gpu->count(&plugin->devices);
    if (code != 0 || plugin->devices < 0) plugin->devices = 0;
    if (plugin->devices > 0) return true;
    const char *message = code ? plugin->gpu->message(code) : "the driver shows none";
    driver_problem(driver);
    return ace_fail(error, ACE_ERROR_DEVICE, "no NVIDIA GPU can be used: %.600s%s", message ? message : "unknown error",
                    driver);
}

bool cuda_plugin_look(const cuda_plugin *plugin, int device, cuda_card *card, ace_error *error)
{
    gpu_context *context = NULL;
    gpu_properties properties = {0};
    *card = (cuda_card){0};
    int code = plugin->gpu->open(device, &context, &properties);
    if (code == 0) {
        code = plugin->gpu->memory(context, &card->free, &card->total);
        plugin->gpu->close(context);
    }
    if (code != 0) {
        const char *message = plugin->gpu->message(code);
        return ace_fail(error, ACE_ERROR_DEVICE, "the GPU cuda:%d cannot be opened: %.600s", device,
                        message ? message : "unknown error");
    }
    snprintf(card->name, sizeof card->name, "%.*s", (int)sizeof properties.name - 1, properties.name);
    snprintf(card->driver, sizeof card->driver, "%.*s", (int)sizeof properties.driver - 1, properties.driver);
    card->capability[0] = properties.capability[0];
    card->capability[1] = properties.capability[1];
    return true;
}

void cuda_plugin_close(cuda_plugin *plugin)
{
    if (plugin->library && !plugin->started) dlclose(plugin->library);
    *plugin = (cuda_plugin){0};
}
