/* The timesteps at which the official loops call the transformer, bit for bit, and what is refused. */
#include "diffusion/schedule.h"
#include "goldens.h"

static void assert_schedule(const flow_schedule *schedule, const json_t *c, float end)
{
    json_t *t = json_object_get(c, "t");
    assert_int_equal(schedule->steps, json_array_size(t));
    for (int i = 0; i < schedule->steps; i++)
        assert_true(schedule->t[i] == (float)json_number_value(json_array_get(t, (size_t)i)));
    assert_true(schedule->t[schedule->steps] == end);
}

static void turbo(void **state)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden_part(state, "schedules"), "turbo"), i, c)
    {
        flow_schedule s;
        assert_true(schedule_turbo(json_whole(c, "steps"), json_number(c, "shift"), &s, NULL));
        assert_schedule(&s, c, 0);
    }
    assert_int_equal(i, 38);
}

static void turbo_custom(void **state)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden_part(state, "schedules"), "turbo_custom"), i, c)
    {
        double given[32];
        json_t *list = json_object_get(c, "given");
        for (size_t k = 0; k < json_array_size(list); k++) given[k] = json_number_value(json_array_get(list, k));
        flow_schedule s;
        assert_true(schedule_turbo_custom(given, json_array_size(list), &s, NULL));
        assert_schedule(&s, c, 0);
    }
    assert_int_equal(i, 6);
}

static void base(void **state)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden_part(state, "schedules"), "base"), i, c)
    {
        flow_schedule s;
        assert_true(schedule_base(json_whole(c, "steps"), json_number(c, "shift"), &s, NULL));
        assert_schedule(&s, c, 0);
    }
    assert_int_equal(i, 45);
}

static void cover_noise(void **state)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden_part(state, "schedules"), "cover_noise"), i, c)
    {
        flow_schedule s;
        bool is_turbo = strcmp(json_text(c, "variant"), "turbo") == 0;
        int steps = json_whole(c, "steps");
        double shift = json_number(c, "shift");
        assert_true(is_turbo ? schedule_turbo(steps, shift, &s, NULL) : schedule_base(steps, shift, &s, NULL));
        schedule_start_at(&s, json_number(c, "strength"));
        assert_schedule(&s, c, 0);
    }
    assert_int_equal(i, 36);
}

static void base_custom_is_used_as_given(void **state)
{
    (void)state;
    const double given[] = {1, 0.7, 0.25, 0.1};
    flow_schedule s;
    assert_true(schedule_base_custom(given, 4, &s, NULL));
    assert_int_equal(s.steps, 3);
    for (int i = 0; i < 4; i++) assert_true(s.t[i] == (float)given[i]);
}

static void assert_refused(bool result, ace_error *error, const char *part)
{
    assert_false(result);
    assert_int_equal(error->status, ACE_ERROR_USAGE);
    if (!strstr(error->message, part)) fail_msg("\"%s\" does not say \"%s\"", error->message, part);
    *error = (ace_error){0};
}

static void refused(void **state)
{
    (void)state;
    flow_schedule s;
    ace_error e = {0};
    double many[300];
    for (int i = 0; i < 300; i++) many[i] = 1 - i / 300.0;
    assert_refused(schedule_turbo(0, 3, &s, &e), &e, "0 steps");
    assert_refused(schedule_turbo(21, 3, &s, &e), &e, "1 to 20");
    assert_refused(schedule_turbo(8, NAN, &s, &e), &e, "shift");
    assert_refused(schedule_turbo(8, 0, &s, &e), &e, "shift");
    assert_refused(schedule_turbo(8, INFINITY, &s, &e), &e, "shift");
    assert_refused(schedule_base(-1, 1, &s, &e), &e, "-1 steps");
    assert_refused(schedule_base(201, 1, &s, &e), &e, "1 to 200");
    assert_refused(schedule_base(50, -1, &s, &e), &e, "shift");
    assert_refused(schedule_turbo_custom(many, 0, &s, &e), &e, "no value");
    assert_refused(schedule_turbo_custom((double[]){0, 0}, 2, &s, &e), &e, "no value");
    assert_refused(schedule_turbo_custom(many, 21, &s, &e), &e, "at most 20");
    assert_refused(schedule_turbo_custom((double[]){1, NAN}, 2, &s, &e), &e, "timestep 2 is");
    assert_refused(schedule_turbo_custom((double[]){1, 0.5, 0.5}, 3, &s, &e), &e, "timestep 3 (0.5)");
    assert_refused(schedule_turbo_custom((double[]){0.5, 0.6}, 2, &s, &e), &e, "not below");
    assert_refused(schedule_turbo_custom((double[]){1.1}, 1, &s, &e), &e, "timestep 1 is 1.1");
    assert_refused(schedule_base_custom((double[]){1}, 1, &s, &e), &e, "two");
    assert_refused(schedule_base_custom(many, 202, &s, &e), &e, "at most 201");
    assert_refused(schedule_base_custom((double[]){1, -0.1}, 2, &s, &e), &e, "timestep 2 is -0.1");
    assert_refused(schedule_base_custom((double[]){1, 1}, 2, &s, &e), &e, "not below");
    assert_true(schedule_base_custom(many, 201, &s, &e));
    assert_int_equal(s.steps, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turbo),       cmocka_unit_test(turbo_custom),
        cmocka_unit_test(base),        cmocka_unit_test(base_custom_is_used_as_given),
        cmocka_unit_test(cover_noise), cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, goldens_open, goldens_close);
}
