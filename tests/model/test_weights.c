/* What becomes of a checkpoint whose tensors are missing, misshapen or not finite, and of a machine without memory:
 * every tensor of the tiny checkpoints, every model, an error that names the tensor, nothing left behind. */
#include "model/model_fixture.h"

#include "base/memory.h"
#include "model/audio_tokenizer.h"
#include "model/condition_encoder.h"
#include "model/dit.h"
#include "model/qwen3.h"

/* ---- a part in which one tensor can be withheld or replaced ----------------------------------------------------- */

/* Takes the place of checkpoint.c's. */
struct ace_part {
    ace_tensors *tensors;
    const char *changed; /* this name finds `replacement`, which may be NULL */
    const ace_tensor *replacement;
};

const ace_tensor *part_find(const ace_part *part, const char *name)
{
    if (part->changed && strcmp(part->changed, name) == 0) return part->replacement;
    return tensors_find(part->tensors, name);
}

const char *part_path(const ace_part *part)
{
    (void)part;
    return "the test's part";
}

static ace_part open_part(const char *file)
{
    char path[1024];
    ace_error error = {0};
    snprintf(path, sizeof path, "%s/%s", TINY_CHECKPOINTS, file);
    ace_part part = {.tensors = tensors_open(path, &error)};
    if (!part.tensors) fail_msg("%s", error.message);
    return part;
}

static int64_t rows_of(const ace_part *part, const char *name)
{
    const ace_tensor *tensor = tensors_find(part->tensors, name);
    assert_non_null(tensor);
    return tensor->shape[0];
}

static transformer_config shape_of(const ace_part *part, const char *prefix, int layers)
{
    char name[128];
    transformer_config shape = {.layers = layers, .rms_norm_eps = 1e-6f, .rope_theta = 1e6};
#define ROWS(suffix) (snprintf(name, sizeof name, "%slayers.0.%s.weight", prefix, suffix), (int)rows_of(part, name))
    shape.head_dim = ROWS("self_attn.q_norm");
    shape.heads = ROWS("self_attn.q_proj") / shape.head_dim;
    shape.kv_heads = ROWS("self_attn.k_proj") / shape.head_dim;
    shape.intermediate = ROWS("mlp.gate_proj");
    shape.hidden = ROWS("mlp.down_proj");
#undef ROWS
    return shape;
}

static int depth_of(const ace_part *part, const char *prefix)
{
    char name[128];
    int layers = 0;
    do snprintf(name, sizeof name, "%slayers.%d.mlp.down_proj.weight", prefix, layers);
    while (tensors_find(part->tensors, name) && ++layers);
    return layers;
}

static dit_config dit_config_of(const ace_part *part)
{
    dit_config config = {.dit = shape_of(part, "decoder.", depth_of(part, "decoder.")),
                         .encoder = shape_of(part, "detokenizer.", 0),
                         .lyric_layers = depth_of(part, "encoder.lyric_encoder."),
                         .timbre_layers = depth_of(part, "encoder.timbre_encoder."),
                         .pooler_layers = depth_of(part, "detokenizer."),
                         .latent_channels = 64,
                         .in_channels = 192,
                         .patch_size = 2,
                         .text_hidden = (int)tensors_find(part->tensors, "encoder.text_projector.weight")->shape[1],
                         .sliding_window = 16,
                         .timbre_frames = 750,
                         .pool_window = 5,
                         .fsq_levels = {8, 8, 8, 5, 5, 5},
                         .fsq_count = 6};
    config.fsq_dim = config.encoder.hidden;
    config.timbre_token = config.encoder.hidden != config.dit.hidden;
    return config;
}

/* ---- loading everything ------------------------------------------------------------------------------------------ */

typedef struct loader_context {
    ace_device *dev;
    const ace_part *part;
    dit_config dit;
    qwen3_config text;
} loader_context;

static ace_error load_dit(const loader_context *c)
{
    static dit model;
    ace_error error = {0};
    dit_load(&model, c->dev, c->part, &c->dit, NULL);
    ace_device_ok(c->dev, &error);
    dit_free(&model);
    return error;
}

static ace_error load_condition_encoder(const loader_context *c)
{
    static condition_encoder model;
    ace_error error = {0};
    condition_encoder_load(&model, c->dev, c->part, &c->dit);
    ace_device_ok(c->dev, &error);
    condition_encoder_free(&model);
    return error;
}

static ace_error load_tokenizer(const loader_context *c)
{
    static audio_tokenizer model;
    ace_error error = {0};
    audio_tokenizer_load(&model, c->dev, c->part, &c->dit);
    ace_device_ok(c->dev, &error);
    audio_tokenizer_free(&model);
    return error;
}

static ace_error load_detokenizer(const loader_context *c)
{
    static audio_detokenizer model;
    ace_error error = {0};
    audio_detokenizer_load(&model, c->dev, c->part, &c->dit);
    ace_device_ok(c->dev, &error);
    audio_detokenizer_free(&model);
    return error;
}

static ace_error load_text_encoder(const loader_context *c)
{
    static qwen3 model;
    ace_error error = {0};
    qwen3_load(&model, c->dev, c->part, &c->text, NULL);
    ace_device_ok(c->dev, &error);
    qwen3_free(&model);
    return error;
}

typedef ace_error loader(const loader_context *);

/* Which of the models of the part is hurt by the change. */
static int failing_models(const loader_context *c, const char *tensor, const char *complaint)
{
    static loader *const dit_loaders[] = {load_dit, load_condition_encoder, load_tokenizer, load_detokenizer};
    static loader *const text_loaders[] = {load_text_encoder};
    bool text = c->text.vocab_size > 0;
    int failed = 0;
    for (int i = 0; i < (text ? 1 : 4); i++) {
        ace_error error = (text ? text_loaders : dit_loaders)[i](c);
        assert_int_equal(ace_device_get_stats(c->dev).weight_bytes, 0);
        ace_device_clear(c->dev);
        if (error.status == ACE_OK) continue;
        if (!strstr(error.message, tensor) || !strstr(error.message, complaint))
            fail_msg("wanted %s and \"%s\", got: %s", tensor, complaint, error.message);
        assert_true(error.status == ACE_ERROR_MODEL || error.status == ACE_ERROR_FORMAT);
        failed++;
    }
    return failed;
}

/* The 2B timbre encoder has a token that it does not use; everything else belongs to a model. */
static int expected_failures(const loader_context *c, const char *tensor)
{
    return strcmp(tensor, "encoder.timbre_encoder.special_token") == 0 && !c->dit.timbre_token ? 0 : 1;
}

typedef enum change { MISSING, MISSHAPEN, OTHER_RANK, NOT_FINITE } change;

static void apply(ace_tensor *copy, change what, uint8_t **data)
{
    if (what == MISSHAPEN) {
        int64_t last = copy->shape[copy->rank - 1];
        copy->shape[copy->rank - 1] = last + 1;
        copy->count += copy->count / last;
    } else if (what == OTHER_RANK) {
        copy->shape[0] = copy->count;
        copy->rank = 1;
    } else if (what == NOT_FINITE) {
        static const uint8_t nan_f32[4] = {0, 0, 0xc0, 0x7f}, nan_bf16[2] = {0xc0, 0x7f};
        size_t element = copy->dtype == ACE_F32 ? 4 : 2;
        assert_true(copy->dtype == ACE_F32 || copy->dtype == ACE_BF16);
        *data = malloc(copy->bytes);
        assert_non_null(*data);
        memcpy(*data, copy->data, copy->bytes);
        memcpy(*data + copy->bytes - element, element == 4 ? nan_f32 : nan_bf16, element);
        copy->data = *data;
    }
}

/* Hurts each tensor of a file in turn. */
static void check_file(const char *file, ace_device *dev, change what, const char *complaint)
{
    ace_part part = open_part(file);
    loader_context c = {.dev = dev, .part = &part};
    if (tensors_find(part.tensors, "embed_tokens.weight")) {
        c.text = (qwen3_config){.stack = shape_of(&part, "", depth_of(&part, ""))};
        c.text.vocab_size = (int)rows_of(&part, "embed_tokens.weight");
    } else {
        c.dit = dit_config_of(&part);
    }
    assert_int_equal(failing_models(&c, "", ""), 0);
    for (size_t i = 0; i < tensors_count(part.tensors); i++) {
        const ace_tensor *tensor = tensors_at(part.tensors, i);
        /* vectors and tables are the same in any rank */
        if (what == OTHER_RANK && tensor->rank != 2) continue;
        ace_tensor copy = *tensor;
        uint8_t *data = NULL;
        apply(&copy, what, &data);
        part.changed = tensor->name;
        part.replacement = what == MISSING ? NULL : &copy;
        int failed = failing_models(&c, tensor->name, complaint);
        if (failed != expected_failures(&c, tensor->name))
            fail_msg("%s: %d models minded a change of %s", file, failed, tensor->name);
        part.changed = NULL;
        free(data);
    }
    tensors_close(part.tensors);
}

static const char *const files[] = {"turbo/acestep-v15-turbo/model.safetensors",
                                    "xl-turbo/acestep-v15-xl-turbo/model.safetensors.index.json",
                                    "turbo/Qwen3-Embedding-0.6B/model.safetensors"};
enum { FILES = 3 };

static ace_device *open_device(void)
{
    ace_error error = {0};
    ace_device *dev = ace_cpu_open(&(ace_cpu_options){.precision = ACE_F32, .threads = 1}, &error);
    if (!dev) fail_msg("%s", error.message);
    return dev;
}

/* The planner must notice too: it never reads a value, but it looks every tensor up. */
static void check_on_meter(change what, const char *complaint)
{
    ace_error error = {0};
    ace_device *dev = open_device(), *meter = ace_meter_open(dev, &error);
    if (!meter) fail_msg("%s", error.message);
    for (int i = 0; i < FILES; i++) check_file(files[i], meter, what, complaint);
    ace_device_close(meter);
    ace_device_close(dev);
}

static void check_on_cpu(change what, const char *complaint)
{
    ace_device *dev = open_device();
    for (int i = 0; i < FILES; i++) check_file(files[i], dev, what, complaint);
    ace_device_close(dev);
}

static void a_missing_tensor_is_named(void **state)
{
    (void)state;
    check_on_meter(MISSING, "is missing");
    check_on_cpu(MISSING, "is missing");
}

static void a_misshapen_tensor_is_named_with_both_shapes(void **state)
{
    (void)state;
    check_on_meter(MISSHAPEN, "ask for [");
    check_on_cpu(MISSHAPEN, "ask for [");
}

static void a_flattened_matrix_is_misshapen(void **state)
{
    (void)state;
    check_on_meter(OTHER_RANK, "ask for [");
}

static void a_value_that_is_not_finite_is_named(void **state)
{
    (void)state;
    check_on_cpu(NOT_FINITE, "");
}

/* ---- a machine without memory --------------------------------------------------------------------------------- */

static void memory_that_runs_out_while_loading_is_an_error(void **state)
{
    (void)state;
    ace_part part = open_part(files[0]);
    loader_context c = {.dev = open_device(), .part = &part, .dit = dit_config_of(&part)};
    static loader *const loaders[] = {load_dit, load_condition_encoder, load_tokenizer, load_detokenizer};
    for (int i = 0; i < 4; i++) {
        long refused = 0;
        for (;;) {
            ace_fault_arm(refused + 1);
            ace_error error = loaders[i](&c);
            ace_fault_arm(0);
            ace_device_clear(c.dev);
            assert_int_equal(ace_device_get_stats(c.dev).weight_bytes, 0);
            if (error.status == ACE_OK) break;
            assert_int_equal(error.status, ACE_ERROR_MEMORY);
            refused++;
        }
        assert_true(refused > 20); /* at least once a weight */
    }
    ace_device_close(c.dev);
    tensors_close(part.tensors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_tensor_is_named),
        cmocka_unit_test(a_misshapen_tensor_is_named_with_both_shapes),
        cmocka_unit_test(a_flattened_matrix_is_misshapen),
        cmocka_unit_test(a_value_that_is_not_finite_is_named),
        cmocka_unit_test(memory_that_runs_out_while_loading_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
