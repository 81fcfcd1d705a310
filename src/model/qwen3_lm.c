#include "model/qwen3_lm.h"

#include "base/error.h"
#include "model/rope.h"

/* Rows of the cache are this much longer than what they hold: rows a power of two apart would compete for the same few
 * lines of the first-level cache. */
enum { CACHE_PADDING = 32 };

/* Spans of a pass that may be recorded: one token each. */
enum { STEP_SPANS = 64 };

void qwen3_lm_load(qwen3_lm *model, ace_device *dev, const ace_part *part, const qwen3_config *config,
                   const qwen3_lm_storage *storage)
{
    static const qwen3_lm_storage everything;
    if (!storage) storage = &everything;
    *model = (qwen3_lm){.config = *config};
    ace_weight_set *set = &model->weights;
    int64_t vocabulary = config->vocab_size, hidden = config->stack.hidden;
    weights_begin(set, dev, part);
    token_table_load(&model->embedding, set, vocabulary, hidden, "embed_tokens.weight", storage->first_row,
                     storage->rows);
    encoder_stack_load(&model->stack, set, "", &config->stack, config->stack.layers, &(encoder_masks){.causal = true},
                       &storage->layers);
    if (!config->tied_head)
        token_table_load(&model->own_head, set, vocabulary, hidden, "lm_head.weight", storage->first_row,
                         storage->rows);
}

void qwen3_lm_free(qwen3_lm *model)
{
    weights_free(&model->weights);
}

qwen3_cache qwen3_cache_new(const qwen3_lm *model, int64_t rows, int64_t positions, int64_t most_tokens)
{
    ace_device *dev = model->weights.dev;
    ace_dtype act = ace_device_act(dev);
    const transformer_config *shape = &model->stack.shape;
    int64_t q = transformer_q_width(shape), kv = transformer_kv_width(shape);

    qwen3_cache cache = {.rows = rows, .kv_width = kv, .most_tokens = most_tokens};
    for (int i = 0; i < shape->layers; i++) cache.keys_values[i] = ace_scratch(dev, act, rows, 2 * kv + CACHE_PADDING);
    cache.rope = rope_table(dev, positions, shape->head_dim, shape->rope_theta);
    cache.angles = ace_scratch(dev, ACE_F32, most_tokens, shape->head_dim);
    cache.x = ace_scratch(dev, ACE_F32, most_tokens, shape->hidden);
    cache.normed = ace_scratch(dev, act, most_tokens, shape->hidden);
    cache.qkv = ace_scratch(dev, act, most_tokens, q + 2 * kv);
    cache.mixed = ace_scratch(dev, act, most_tokens, q);
    cache.product = ace_scratch(dev, act, most_tokens, shape->intermediate);
    cache.numbers = ace_scratch(dev, ACE_F32, 1, 2 * STEP_SPANS);
    return cache;
}

/* ---- one pass ---------------------------------------------------------------------------------------------------- */

/* What the layers of a pass share: the working memory cut to its tokens, and whose they are. */
typedef struct pass {
    ace_device *dev;
    const transformer_config *shape;
    const qwen3_cache *cache;
    const qwen3_span *spans;
    int span_count;
    int64_t tokens;
    ace_mat numbers; /* F32 [1][2 spans]; absent: no step that comes again */
    ace_mat x, angles, normed, qkv, mixed, product;
} pass;

static const ace_mat none;

/* Number `which` of a span. */
static ace_number number_of(const pass *p, int which, int span, int64_t value)
{
    if (p->numbers.rows == 0) return (ace_number){.value = value};
    return (ace_number){value, ace_cols(p->numbers, which * p->span_count + span, 1)};
}

/* Keys and values of the new tokens join those of their sequence; queries look at all of them up to themselves. */
static void attend(const pass *p, int layer)
{
    int64_t q_width = transformer_q_width(p->shape), kv = p->cache->kv_width, at = 0;
    ace_attention_shape heads = transformer_attention(p->shape, ACE_MASK_CAUSAL, 0);
    for (int i = 0; i < p->span_count; at += p->spans[i].count, i++) {
        const qwen3_sequence *s = p->spans[i].sequence;
        int64_t count = p->spans[i].count;
        ace_mat rows = ace_rows(p->qkv, at, count);
        ace_mat cached = ace_rows(p->cache->keys_values[layer], s->first, s->capacity);
        ace_append(p->dev, ace_cols(cached, 0, 2 * kv), ace_cols(rows, q_width, 2 * kv), number_of(p, 0, i, s->length));
        ace_attention_growing(p->dev, ace_rows(p->mixed, at, count), ace_cols(rows, 0, q_width),
                              ace_cols(cached, 0, kv), ace_cols(cached, kv, kv), &heads,
                              number_of(p, 1, i, s->length + count));
    }
}

static void attention_branch(const pass *p, const encoder_layer *layer, int index)
{
    const self_attention *attention = &layer->attention;
    float eps = p->shape->rms_norm_eps;
    int head_dim = p->shape->head_dim;
    int64_t q_width = transformer_q_width(p->shape);
    ace_rms_norm(p->dev, p->normed, p->x, layer->input_norm, eps, none, none);
    ace_linear(p->dev, p->qkv, p->normed, attention->qkv, NULL);
    ace_head_norm_rope(p->dev, ace_cols(p->qkv, 0, q_width), head_dim, attention->q_norm, eps, p->angles, 0);
    ace_head_norm_rope(p->dev, ace_cols(p->qkv, q_width, p->cache->kv_width), head_dim, attention->k_norm, eps,
                       p->angles, 0);
    attend(p, index);
    ace_linear(p->dev, p->x, p->mixed, attention->output, &(ace_epilogue){.residual = p->x});
}

static void mlp_branch(const pass *p, const encoder_layer *layer)
{
    ace_rms_norm(p->dev, p->normed, p->x, layer->post_norm, p->shape->rms_norm_eps, none, none);
    ace_linear_silu_mul(p->dev, p->product, p->normed, layer->mlp.gate_up);
    ace_linear(p->dev, p->x, p->product, layer->mlp.down, &(ace_epilogue){.residual = p->x});
}

static bool fits(const qwen3_cache *cache, const qwen3_span *spans, int span_count, int64_t *tokens)
{
    *tokens = 0;
    for (int i = 0; i < span_count; i++) {
        const qwen3_sequence *s = spans[i].sequence;
        int64_t end = s->length + spans[i].count;
        if (spans[i].count < 1 || s->first < 0 || end > s->capacity || s->first + s->capacity > cache->rows ||
            end > cache->rope.rows)
            return false;
        *tokens += spans[i].count;
    }
    return *tokens > 0 && *tokens <= cache->most_tokens;
}

static pass begin(const qwen3_lm *model, const qwen3_cache *cache, const qwen3_span *spans, int span_count,
                  int64_t tokens)
{
    pass p = {.dev = model->weights.dev,
              .shape = &model->stack.shape,
              .cache = cache,
              .spans = spans,
              .span_count = span_count,
              .tokens = tokens,
              .x = ace_rows(cache->x, 0, tokens),
              .angles = ace_rows(cache->angles, 0, tokens),
              .normed = ace_rows(cache->normed, 0, tokens),
              .qkv = ace_rows(cache->qkv, 0, tokens),
              .mixed = ace_rows(cache->mixed, 0, tokens),
              .product = ace_rows(cache->product, 0, tokens)};
    int64_t at = 0;
    for (int i = 0; i < span_count; at += spans[i].count, i++)
        ace_copy(p.dev, ace_rows(p.angles, at, spans[i].count),
                 ace_rows(cache->rope, spans[i].sequence->length, spans[i].count));
    return p;
}

/* A token for each sequence is the same step each time, but for its place. */
static void put_numbers(pass *p)
{
    float host[2 * STEP_SPANS];
    p->numbers = ace_cols(p->cache->numbers, 0, 2 * (int64_t)p->span_count);
    for (int i = 0; i < p->span_count; i++) {
        host[i] = (float)p->spans[i].sequence->length;
        host[p->span_count + i] = (float)(p->spans[i].sequence->length + 1);
    }
    ace_upload(p->dev, p->numbers, host);
}

/* False with the device's failure when the tokens are too many. */
static bool begin_pass(pass *p, const qwen3_lm *model, const qwen3_cache *cache, const qwen3_span *spans,
                       int span_count)
{
    int64_t tokens;
    ace_error error = {0};
    if (fits(cache, spans, span_count, &tokens)) {
        *p = begin(model, cache, spans, span_count, tokens);
        return true;
    }
    ace_fail(&error, ACE_ERROR_INTERNAL,
             "more tokens for the language model than its memory was planned for: this is a bug, please report it");
    ace_device_fail(model->weights.dev, &error);
    return false;
}

/* The layers, of tokens whose embeddings are there. */
static void end_pass(pass *p, const qwen3_lm *model, ace_mat y)
{
    const encoder_stack *stack = &model->stack;
    ace_device *dev = p->dev;
    bool step = p->tokens == p->span_count && p->span_count <= STEP_SPANS;
    if (step) put_numbers(p);
    if (step) ace_repeat_begin(dev);
    held_encoder_layer held = {0};
    for (int i = 0; i < stack->shape.layers; i++) {
        encoder_stack_hold(&held, dev, stack, i);
        if (held.layer) {
            attention_branch(p, held.layer, i);
            mlp_branch(p, held.layer);
        }
    }
    encoder_stack_let_go(&held);
    encoder_stack_ask(dev, stack, 0); /* of the next pass */
    int64_t end = 0;
    for (int i = 0; i < p->span_count; i++) {
        end += p->spans[i].count;
        p->spans[i].sequence->length += p->spans[i].count;
        ace_rms_norm(dev, ace_rows(y, i, 1), ace_rows(p->x, end - 1, 1), stack->norm, stack->shape.rms_norm_eps, none,
                     none);
    }
    if (step) ace_repeat_end(dev);
}

void qwen3_lm_extend(const qwen3_lm *model, qwen3_cache *cache, ace_mat y, const int32_t *ids, const qwen3_span *spans,
                     int span_count)
{
    pass p;
    if (!begin_pass(&p, model, cache, spans, span_count)) return;
    token_table_embed(&model->embedding, p.x, ids, p.tokens);
    end_pass(&p, model, y);
}

bool qwen3_lm_takes_choices(const qwen3_lm *model, int64_t first, int64_t count)
{
    return ace_device_samples(model->weights.dev) && token_table_keeps(&model->embedding, first, count);
}

void qwen3_lm_extend_choices(const qwen3_lm *model, qwen3_cache *cache, ace_mat y, int64_t first, ace_mat choices,
                             const qwen3_span *spans, int span_count)
{
    pass p;
    if (!begin_pass(&p, model, cache, spans, span_count)) return;
    token_table_embed_choices(&model->embedding, p.x, first, choices);
    end_pass(&p, model, y);
}

void qwen3_cache_copy(const qwen3_lm *model, qwen3_cache *cache, qwen3_sequence *to, const qwen3_sequence *from,
                      int64_t length)
{
    for (int i = 0; i < model->stack.shape.layers; i++)
        ace_copy(model->weights.dev,
                 ace_cols(ace_rows(cache->keys_values[i], to->first, length), 0, 2 * cache->kv_width),
                 ace_cols(ace_rows(cache->keys_values[i], from->first, length), 0, 2 * cache->kv_width));
    to->length = length;
}

void qwen3_lm_logits(const qwen3_lm *model, ace_mat y, ace_mat x, int64_t first, const int32_t *ids, int64_t count)
{
    const token_table *head = model->config.tied_head ? &model->embedding : &model->own_head;
    token_table_logits(head, y, x, first, ids, count);
}
