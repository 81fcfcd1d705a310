/* Configs from hostile bytes. The first byte says what the rest is: the config.json of a DiT, a Qwen3 or a VAE, or
 * a safetensors file whose shapes are the config. A config that is accepted must be valid. */
#include "formats/tensors_build.h"
#include "model/checkpoint_names.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void shapes(const uint8_t *data, size_t size)
{
    char prefix[NAMES_PREFIX_SIZE];
    ace_tensors *tensors = tensors_open_memory("fuzz", data, size, NULL);
    for (int kind = 0; tensors && kind < ACE_PART_COUNT; kind++) {
        if (!names_find(tensors, (found_kind)kind, prefix)) continue;
        ace_error error = {0};
        dit_config dit;
        qwen3_config qwen3;
        vae_config vae;
        ace_part *part = part_new("fuzz", &error);
        bool ok = part && part_add(part, tensors, prefix, &error) && part_finish(part, &error);
        if (ok && kind == ACE_PART_DIT && dit_config_from_shapes(&dit, part, &error))
            dit_config_check(&dit, part, &error);
        if (ok && (kind == ACE_PART_TEXT_ENCODER || kind == ACE_PART_LM) &&
            qwen3_config_from_shapes(&qwen3, part, &error))
            qwen3_config_check(&qwen3, part, &error);
        /* what was read from shapes must agree with them */
        if (ok && kind == ACE_PART_VAE && vae_config_from_shapes(&vae, part, &error) &&
            !vae_config_check_tensors(&vae, part, &error))
            abort();
        part_free(part);
    }
    if (tensors && names_is_diffusers(tensors)) {
        ace_part *part = part_new("fuzz", NULL);
        if (part && part_add_diffusers(part, tensors, DIFFUSERS_TRANSFORMER, NULL)) part_finish(part, NULL);
        part_free(part);
    }
    tensors_close(tensors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const char *json = (const char *)data + 1;
    ace_error error = {0};
    dit_config dit;
    qwen3_config qwen3;
    vae_config vae;
    bool ok = true;
    switch (data[0]) {
    case 'd':
        ok = !dit_config_parse(&dit, json, size - 1, "fuzz", &error) || dit_config_valid(&dit, "", NULL);
        break;
    case 'q':
        ok = !qwen3_config_parse(&qwen3, json, size - 1, "fuzz", &error) || qwen3_config_valid(&qwen3, "", NULL);
        break;
    case 'v':
        ok = !vae_config_parse(&vae, json, size - 1, "fuzz", &error) || vae_config_valid(&vae, "", NULL);
        break;
    case 's':
        shapes(data + 1, size - 1);
        break;
    default:
        break;
    }
    if (!ok) abort();
    return 0;
}
