/* solver_stork4.c - STORK4 (Tan et al., "Stabilized Taylor orthogonal Runge-Kutta", arXiv:2505.24210): the ROCK4 method
 * (Abdulle, SIAM J. Sci. Comput. 23, 2002) with its many small stages, in which the velocity at a stage is not
 * evaluated but extrapolated from the history by a Taylor polynomial in time. Everything is element-wise except the
 * decision how far the polynomial may go. */
#include "diffusion/solver.h"

#include <math.h>
#include <string.h>

/* ROCK4 of one degree: the recurrence's coefficients (1 + 2*(degree - 1)), and the four finishing stages. */
typedef struct rock4 {
    int degree;
    double recurrence[19];
    double a[6], b[4];
} rock4;

static const rock4 ROCK4[] = {
    {10,
     {0.01595000101933615, 0.01929098080329146, 0.006813771091892661, 0.02218226060548395, 0.03194763050768121,
      0.02468951849041972, 0.06429708643843554, 0.02687566748685502, 0.09885398134767075, 0.02879687047315825,
      0.1332911334324939, 0.03051024265050759, 0.1666672556601528, 0.03211180339134084, 0.1993212628717513,
      0.03387840798530223, 0.2348117800966209, 0.03672204698847085, 0.2881723275817451},
     {-0.145179937599982, 0.477661231491125, -0.248988404183759, 0.00930730703798092, -0.0330359105371527,
      0.481074258113903},
     {0.685711960310753, -0.269724027269246, -0.349535907736682, 0.619566456617273}},
    {5,
     {0.04102541073974864, 0.04936734181284644, 0.006437548414781547, 0.0565596481991614, 0.0300867406800562,
      0.06301337991392048, 0.06092514503458917, 0.07122116739390529, 0.1014508394981259},
     {-0.171097214294784, 0.471021380996139, -0.235432301175529, 0.0305165148305403, -0.0508758913107147,
      0.491537536121394},
     {0.653766630051757, -0.239717659625342, -0.34212462537356, 0.634842894408973}},
    {2,
     {0.10671314855438, 0.1296319693918818, 0.006097984609869632},
     {-0.179313593132677, 0.522354978881996, -0.268020263243268, 0.0410644459848542, -0.0673692676033641,
      0.534974252895965},
     {0.727428506710284, -0.281882500610754, -0.366883181811475, 0.684341322628128}},
};
enum { DEGREES = sizeof ROCK4 / sizeof *ROCK4 };

/* The Taylor polynomial of the velocity in time at one element: V(d) = v + d*first + d^2/2*second. */
typedef struct taylor {
    int order; /* 0, 1, 2: the terms that may be used */
    float h1;
    double near, middle, far; /* second = far*v2 + middle*v1 + near*v */
} taylor;

static float first_derivative(const taylor *p, float v, float v1)
{
    return (v1 - v) / p->h1;
}

static float second_derivative(const taylor *p, float v, float v1, float v2)
{
    return (float)(p->far * v2 + p->middle * v1 + p->near * v);
}

/* How many terms the history supports. A derivative that outweighs the velocity itself is noise. */
static taylor taylor_of(const float *v, const solver_past *past, size_t count)
{
    taylor p = {0};
    if (past->count == 0 || past->dt[0] == 0) return p;
    const float *v1 = past->v[0], *v2 = past->count > 1 ? past->v[1] : NULL;
    p.h1 = past->dt[0];
    const double h1 = past->dt[0], h2 = past->count > 1 ? past->dt[1] : 0, product = h1 * h2 * (h1 + h2);
    bool second = v2 && h2 != 0 && fabs(product) >= 1e-30;
    if (second) {
        p.far = 2 / product * h1;
        p.middle = -2 / product * (h1 + h2);
        p.near = 2 / product * h2;
    }
    double sum = 0, sum1 = 0, sum2 = 0;
    for (size_t i = 0; i < count; i++) {
        double d1 = first_derivative(&p, v[i], v1[i]);
        double d2 = second ? second_derivative(&p, v[i], v1[i], v2[i]) : 0;
        sum += (double)v[i] * v[i];
        sum1 += d1 * d1;
        sum2 += d2 * d2;
    }
    double rms = sqrt(sum / (double)count), rms1 = sqrt(sum1 / (double)count), rms2 = sqrt(sum2 / (double)count);
    if (rms > 0 && rms1 * fabs(h1) > 5 * rms) return p;
    p.order = second && !(rms > 0 && rms2 * h1 * h1 > 5 * rms) ? 2 : 1;
    return p;
}

typedef struct element {
    float v, first, second;
    int order;
} element;

static float velocity_at(const element *e, float d)
{
    if (e->order == 0) return e->v;
    float v = e->v + d * e->first;
    return e->order == 1 ? v : v + 0.5f * d * d * e->second;
}

/* One element through the recurrence and the finish. The stage times c are tracked with the same recurrence. */
static float rock4_element(const rock4 *method, float x, const element *e, float t, float dt)
{
    const double *r = method->recurrence;
    float a = -dt * (float)r[0];
    float before = x, y = x + a * e->v;
    float c3 = t, c = t + a;
    for (int j = 0; j + 2 <= method->degree; j++) {
        a = -dt * (float)r[2 * j + 1];
        float g = -(float)r[2 * j + 2], f = 1.0f - g;
        float next = a * velocity_at(e, c - t) + f * y + g * before;
        before = y;
        y = next;
        float c_next = a + f * c + g * c3;
        c3 = c;
        c = c_next;
    }
    float stage[6], weight[4];
    for (int i = 0; i < 6; i++) stage[i] = -dt * (float)method->a[i];
    for (int i = 0; i < 4; i++) weight[i] = -dt * (float)method->b[i];
    float f1 = velocity_at(e, c - t);
    float f2 = velocity_at(e, c + stage[0] - t);
    float f3 = velocity_at(e, c + stage[1] + stage[2] - t);
    float f4 = velocity_at(e, c + stage[3] + stage[4] + stage[5] - t);
    return y + weight[0] * f1 + weight[1] * f2 + weight[2] * f3 + weight[3] * f4;
}

/* The whole item into `next`; false as soon as an element is not finite. */
static bool rock4_step(const rock4 *method, const float *x, const float *v, const solver_past *past, const taylor *p,
                       float t, float dt, float *next, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        element e = {.v = v[i], .order = p->order};
        if (p->order >= 1) e.first = first_derivative(p, v[i], past->v[0][i]);
        if (p->order >= 2) e.second = second_derivative(p, v[i], past->v[0][i], past->v[1][i]);
        next[i] = rock4_element(method, x[i], &e, t, dt);
        if (!isfinite(next[i])) return false;
    }
    return true;
}

void solver_stork4(float *x, const float *v, const solver_past *past, float t, float t_next, int substeps,
                   float *scratch, size_t count)
{
    const float dt = t - t_next;
    if (past->count > 0) {
        const taylor p = taylor_of(v, past, count);
        for (int i = 0; i < DEGREES; i++) {
            if (ROCK4[i].degree > substeps) continue;
            if (rock4_step(&ROCK4[i], x, v, past, &p, t, dt, scratch, count)) {
                memcpy(x, scratch, count * sizeof *x);
                return;
            }
        }
    }
    solver_euler(x, v, dt, count);
}
