/* Configs of the published models, their defaults, and values that must be refused. */
#include "model/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The fields of acestep-v15-turbo and of the XL models as published (dit.md 1.2). */
#define LAYER_PAIR "\"sliding_attention\",\"full_attention\""
#define SIX_PAIRS LAYER_PAIR "," LAYER_PAIR "," LAYER_PAIR "," LAYER_PAIR "," LAYER_PAIR "," LAYER_PAIR
static const char turbo_2b[] =
    "{\"architectures\":[\"AceStepConditionGenerationModel\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
    "\"audio_acoustic_hidden_dim\":64,\"dtype\":\"bfloat16\",\"fsq_dim\":2048,\"fsq_input_levels\":[8,8,8,5,5,5],"
    "\"fsq_input_num_quantizers\":1,\"head_dim\":128,\"hidden_act\":\"silu\",\"hidden_size\":2048,\"in_channels\":192,"
    "\"intermediate_size\":6144,\"is_turbo\":true,\"layer_types\":[" SIX_PAIRS "," SIX_PAIRS "],"
    "\"max_position_embeddings\":32768,\"model_type\":\"acestep\",\"model_version\":\"turbo\","
    "\"num_attention_heads\":16,\"num_attention_pooler_hidden_layers\":2,\"num_audio_decoder_hidden_layers\":24,"
    "\"num_hidden_layers\":24,\"num_key_value_heads\":8,\"num_lyric_encoder_hidden_layers\":8,"
    "\"num_timbre_encoder_hidden_layers\":4,\"patch_size\":2,\"pool_window_size\":5,\"rms_norm_eps\":1e-06,"
    "\"rope_scaling\":null,\"rope_theta\":1000000,\"sliding_window\":128,\"text_hidden_dim\":1024,"
    "\"timbre_fix_frame\":750,\"timbre_hidden_dim\":64,\"use_sliding_window\":true,\"vocab_size\":64003}";
static const char xl_base[] =
    "{\"hidden_size\":2560,\"intermediate_size\":9728,\"num_hidden_layers\":32,\"num_attention_heads\":32,"
    "\"num_key_value_heads\":8,\"head_dim\":128,\"encoder_hidden_size\":2048,\"encoder_intermediate_size\":6144,"
    "\"encoder_num_attention_heads\":16,\"encoder_num_key_value_heads\":8,\"is_turbo\":false,\"rope_theta\":1e6}";

static bool parse_dit(dit_config *config, const char *json, ace_error *error)
{
    *error = (ace_error){0};
    return dit_config_parse(config, json, strlen(json), "config.json", error);
}

static void the_2b_model(void **state)
{
    (void)state;
    dit_config c, bare;
    ace_error error;
    if (!parse_dit(&c, turbo_2b, &error)) fail_msg("%s", error.message);
    assert_int_equal(c.dit.hidden, 2048);
    assert_int_equal(c.dit.intermediate, 6144);
    assert_int_equal(c.dit.layers, 24);
    assert_int_equal(c.dit.heads, 16);
    assert_int_equal(c.dit.kv_heads, 8);
    assert_int_equal(c.dit.head_dim, 128);
    assert_true(c.dit.rms_norm_eps == 1e-6f && c.dit.rope_theta == 1e6);
    assert_int_equal(c.encoder.hidden, 2048);
    assert_int_equal(c.encoder.intermediate, 6144);
    assert_int_equal(c.encoder.heads, 16);
    assert_int_equal(c.encoder.kv_heads, 8);
    assert_int_equal(c.encoder.head_dim, 128);
    assert_int_equal(c.lyric_layers, 8);
    assert_int_equal(c.timbre_layers, 4);
    assert_int_equal(c.pooler_layers, 2);
    assert_int_equal(c.latent_channels, 64);
    assert_int_equal(c.in_channels, 192);
    assert_int_equal(c.patch_size, 2);
    assert_int_equal(c.text_hidden, 1024);
    assert_int_equal(c.sliding_window, 128);
    assert_int_equal(c.timbre_frames, 750);
    assert_int_equal(c.pool_window, 5);
    assert_int_equal(c.fsq_dim, 2048);
    assert_int_equal(c.fsq_count, 6);
    assert_int_equal(c.fsq_levels[0] * c.fsq_levels[1] * c.fsq_levels[2] * c.fsq_levels[3] * c.fsq_levels[4] *
                         c.fsq_levels[5],
                     64000);
    for (int i = 0; i < 24; i++) assert_int_equal(c.sliding[i], i % 2 == 0);
    assert_false(c.timbre_token);
    assert_true(c.is_turbo && c.turbo_known);
    /* every field has its official default */
    assert_true(parse_dit(&bare, "{\"is_turbo\":true}", &error));
    assert_memory_equal(&bare, &c, sizeof c);
}

static void the_xl_model(void **state)
{
    (void)state;
    dit_config c;
    ace_error error;
    assert_true(parse_dit(&c, xl_base, &error));
    assert_int_equal(c.dit.hidden, 2560);
    assert_int_equal(c.dit.heads * c.dit.head_dim, 4096);
    assert_int_equal(c.encoder.hidden, 2048);
    assert_int_equal(c.encoder.intermediate, 6144);
    assert_int_equal(c.encoder.heads, 16);
    assert_true(c.timbre_token && !c.is_turbo && c.turbo_known);
    for (int i = 0; i < 32; i++) assert_int_equal(c.sliding[i], i % 2 == 0);
}

static void the_recipe_is_told_or_unknown(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int recipe; /* -1 unknown */
    } cases[] = {
        {"{}", -1},
        {"{\"is_turbo\":false,\"model_version\":\"turbo\"}", 0},
        {"{\"is_turbo\":null,\"model_version\":\"turbo\"}", 1},
        {"{\"model_version\":\"sft\"}", 0},
        {"{\"model_version\":null,\"auto_map\":{\"AutoModel\":\"modeling_acestep_v15_xl_turbo.X\"}}", 1},
        {"{\"auto_map\":{\"AutoModel\":\"modeling_acestep_v15_base.X\"}}", 0},
        {"{\"auto_map\":{}}", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dit_config c;
        ace_error error;
        assert_true(parse_dit(&c, cases[i].json, &error));
        assert_int_equal(c.turbo_known ? c.is_turbo : -1, cases[i].recipe);
    }
}

static void variations_that_are_honoured(void **state)
{
    (void)state;
    dit_config c;
    ace_error error;
    assert_true(parse_dit(&c, "{\"use_sliding_window\":false}", &error));
    for (int i = 0; i < CONFIG_MAX_LAYERS; i++) assert_false(c.sliding[i]);
    assert_true(parse_dit(&c,
                          "{\"num_hidden_layers\":2,\"num_lyric_encoder_hidden_layers\":2,"
                          "\"num_timbre_encoder_hidden_layers\":1,\"layer_types\":[\"full_attention\","
                          "\"sliding_attention\"]}",
                          &error));
    assert_true(!c.sliding[0] && c.sliding[1]);
    assert_true(parse_dit(&c, "{\"rope_parameters\":{\"rope_theta\":5000000,\"rope_type\":\"default\"}}", &error));
    assert_true(c.dit.rope_theta == 5e6 && c.encoder.rope_theta == 5e6);
}

static void what_cannot_be_honoured_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"[]", "JSON object"},
        {"{", "not valid JSON"},
        {"{\"hidden_size\":\"2048\"}", "must be an integer"},
        {"{\"hidden_size\":2048.5}", "must be an integer"},
        {"{\"hidden_size\":0}", "hidden_size is 0"},
        {"{\"hidden_size\":-2048}", "hidden_size is -2048"},
        {"{\"hidden_size\":4294967297}", "outside"},
        {"{\"hidden_size\":1000000}", "hidden_size is 1000000"},
        {"{\"num_hidden_layers\":129,\"layer_types\":null}", "num_hidden_layers is 129"},
        {"{\"num_hidden_layers\":0}", "num_hidden_layers is 0"},
        {"{\"num_attention_heads\":17}", "cannot share"},
        {"{\"num_key_value_heads\":0}", "num_key_value_heads is 0"},
        {"{\"encoder_num_key_value_heads\":3}", "encoder: 16 attention heads cannot share 3"},
        {"{\"head_dim\":127}", "odd"},
        {"{\"rms_norm_eps\":0}", "rms_norm_eps"},
        {"{\"rms_norm_eps\":-1e-6}", "rms_norm_eps"},
        {"{\"rms_norm_eps\":1e300}", "rms_norm_eps"},
        {"{\"rope_theta\":0}", "rope_theta"},
        {"{\"rope_theta\":1e300}", "rope_theta"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}}", "\"yarn\""},
        {"{\"rope_scaling\":{\"type\":\"linear\"}}", "\"linear\""},
        {"{\"rope_parameters\":{\"rope_type\":\"dynamic\"}}", "\"dynamic\""},
        {"{\"rope_scaling\":7}", "must be an object"},
        {"{\"attention_bias\":true}", "attention_bias"},
        {"{\"hidden_act\":\"gelu\"}", "\"gelu\""},
        {"{\"layer_types\":[\"sliding_attention\"]}", "layer_types has 1 entries, but num_hidden_layers is 24"},
        {"{\"num_hidden_layers\":1,\"num_lyric_encoder_hidden_layers\":1,\"num_timbre_encoder_hidden_layers\":1,"
         "\"num_attention_pooler_hidden_layers\":1,\"layer_types\":[\"causal\"]}",
         "entry 0 of layer_types"},
        {"{\"num_hidden_layers\":1,\"layer_types\":[\"full_attention\"]}", "an encoder has 8 layers"},
        {"{\"in_channels\":191}", "in_channels is 191"},
        {"{\"audio_acoustic_hidden_dim\":65}", "make 195"},
        {"{\"timbre_hidden_dim\":65}", "timbre_hidden_dim 65"},
        {"{\"fsq_input_num_quantizers\":2}", "fsq_input_num_quantizers 2"},
        {"{\"fsq_input_levels\":[]}", "fsq_input_levels"},
        {"{\"fsq_input_levels\":[8,8,8,5,5,5,5,5,5]}", "fsq_input_levels"},
        {"{\"fsq_input_levels\":[8,1]}", "number 1 is 1"},
        {"{\"fsq_input_levels\":[65535,65535,65535,65535]}", "2^30"},
        {"{\"fsq_input_levels\":[8,\"8\"]}", "fsq_input_levels"},
        {"{\"patch_size\":0}", "patch_size"},
        {"{\"pool_window_size\":0}", "pool_window_size"},
        {"{\"sliding_window\":-1}", "sliding_window"},
        {"{\"timbre_fix_frame\":2000000000}", "timbre_fix_frame"},
        {"{\"is_turbo\":1}", "true or false"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dit_config c;
        ace_error error;
        if (parse_dit(&c, cases[i].json, &error)) fail_msg("%s was accepted", cases[i].json);
        if (!strstr(error.message, cases[i].message)) fail_msg("%s: %s", cases[i].json, error.message);
        assert_true(error.status == ACE_ERROR_FORMAT || error.status == ACE_ERROR_MODEL);
    }
}

static void text_encoders(void **state)
{
    (void)state;
    static const char published[] =
        "{\"architectures\":[\"Qwen3ForCausalLM\"],\"attention_bias\":false,\"head_dim\":128,\"hidden_act\":\"silu\","
        "\"hidden_size\":1024,\"intermediate_size\":3072,\"max_window_layers\":28,\"model_type\":\"qwen3\","
        "\"num_attention_heads\":16,\"num_hidden_layers\":28,\"num_key_value_heads\":8,\"rms_norm_eps\":1e-06,"
        "\"rope_scaling\":null,\"rope_theta\":1000000,\"sliding_window\":null,\"tie_word_embeddings\":true,"
        "\"use_sliding_window\":false,\"vocab_size\":151669}";
    static const char *const refused[] = {"{\"use_sliding_window\":true}", "{\"vocab_size\":0}",
                                          "{\"vocab_size\":2000000000}", "{\"num_key_value_heads\":7}", "null"};
    qwen3_config c;
    ace_error error = {0};
    assert_true(qwen3_config_parse(&c, published, strlen(published), "config.json", &error));
    assert_int_equal(c.stack.layers, 28);
    assert_int_equal(c.stack.hidden, 1024);
    assert_int_equal(c.stack.heads * c.stack.head_dim, 2048);
    assert_int_equal(c.vocab_size, 151669);
    assert_true(c.tied_head);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_false(qwen3_config_parse(&c, refused[i], strlen(refused[i]), "config.json", NULL));
}

static void vaes(void **state)
{
    (void)state;
    static const char published[] =
        "{\"_class_name\":\"AutoencoderOobleck\",\"_diffusers_version\":\"0.34.0\",\"audio_channels\":2,"
        "\"channel_multiples\":[1,2,4,8,16],\"decoder_channels\":128,\"decoder_input_channels\":64,"
        "\"downsampling_ratios\":[2,4,4,6,10],\"encoder_hidden_size\":128,\"sampling_rate\":48000}";
    static const char *const refused[] = {
        "{\"_class_name\":\"AutoencoderKL\"}",
        "{\"downsampling_ratios\":[2,4,4,6]}",
        "{\"downsampling_ratios\":[2,4,4,6,5]}",
        "{\"downsampling_ratios\":[2,4,4,6,0]}",
        "{\"downsampling_ratios\":[64,64,64,64,64]}",
        "{\"downsampling_ratios\":[2,2,2,2,2,2,2,2,2],\"channel_multiples\":[1,1,1,1,1,1,1,1,1]}",
        "{\"channel_multiples\":[1,2,4,8,0]}",
        "{\"encoder_hidden_size\":64}",
        "{\"decoder_channels\":0,\"encoder_hidden_size\":0}",
        "{\"sampling_rate\":0}",
        "{\"audio_channels\":0}",
    };
    vae_config c;
    ace_error error = {0};
    assert_true(vae_config_parse(&c, published, strlen(published), "config.json", &error));
    assert_int_equal(c.blocks, 5);
    assert_int_equal(c.strides[0] * c.strides[1] * c.strides[2] * c.strides[3] * c.strides[4], 1920);
    assert_int_equal(c.multiples[4], 16);
    assert_int_equal(c.hidden, 128);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (vae_config_parse(&c, refused[i], strlen(refused[i]), "config.json", NULL)) fail_msg("%s", refused[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_2b_model),
        cmocka_unit_test(the_xl_model),
        cmocka_unit_test(the_recipe_is_told_or_unknown),
        cmocka_unit_test(variations_that_are_honoured),
        cmocka_unit_test(what_cannot_be_honoured_is_refused),
        cmocka_unit_test(text_encoders),
        cmocka_unit_test(vaes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
