"""Exact minimisation of the Lasso GLM's objective: proximal Newton steps over an active set, compiled.

For labels y in {0, 1}, `n` trials and `p` channels it finds the minimum over b, b0 of

    (1/n) sum_i [log(1 + exp(e_i)) - y_i e_i] + l1 sum_j |b_j| + (l2/2) sum_j b_j^2

with e_i = b0 + sum_j x_ij b_j, the objective of glmnet and of MATLAB's lassoglm; the intercept b0 is not
penalised. Methods: Friedman, Hastie and Tibshirani (2010, J Stat Softw 33), Lee, Sun and Saunders (2014, SIAM
J Optim 24).

What makes it fast, without a word about exactness (a problem ends when its optimality conditions hold to the
tolerance, whatever led there):

- Channels are centred. At the start all trials weigh the same, so the Hessian is one Gram matrix times a
  number, which all classes of a time sample share; for weak signals it is good for most of the way.
- A Hessian is kept as long as a step divides the residual by 10, and computed for the active channels alone.
- The quadratic model is minimised by a few coordinate sweeps to find signs, then by solving for the channels
  that are not zero: sweeps alone are slow on neighbouring electrodes, which are nearly the same.

No BLAS is called, so the result has the same bits whatever the number of threads.
"""

import numpy as np
from numba import njit

Array = np.ndarray
FAST = {"reassoc", "contract", "nsz"}
"""Sums may be reordered (for vector instructions); infinities keep their meaning."""
ENOUGH = 0.1
"""A Hessian is kept while a step leaves at most this share of the residual."""


@njit(cache=True, nogil=True, fastmath=FAST)
def solve(x: Array, y: Array, l1: float, l2: float, tolerance: float, steps: int) -> tuple[Array, Array, Array]:
    """Solve all problems of all time samples and classes; return coef (T, K, p), intercept and residual (T, K).

    `x` (T, p, n), C-contiguous, are channels by trials, **centred in place**; `y` (K, n) is 1 where the trial is of
    the class, else 0, and each class has both; all is float64. The residual is the largest violation of the
    optimality conditions that is left; a problem ends at `tolerance`, or after `steps` Newton steps.
    """
    times, p, n = x.shape
    classes = y.shape[0]
    coef = np.zeros((times, classes, p))
    intercept = np.zeros((times, classes))
    residual = np.zeros((times, classes))
    mean = np.zeros(p)
    gram = np.zeros((p + 3, p + 3))
    rows = np.zeros((p + 3, n))
    weighted = np.zeros((p + 3, n))
    for t in range(times):
        for j in range(p):
            mean[j] = x[t, j].mean()
            for i in range(n):
                x[t, j, i] -= mean[j]
            rows[j] = x[t, j]
        rows[p:] = 0.0
        _products(rows, rows, gram, p)
        for k in range(classes):
            start, left = _solve_one(x[t], mean, gram, y[k], l1, l2, tolerance, steps, coef[t, k], rows, weighted)
            intercept[t, k] = start - np.sum(mean * coef[t, k])
            residual[t, k] = left
    return coef, intercept, residual


@njit(cache=True, nogil=True, fastmath=FAST)
def _solve_one(
    x: Array,
    mean: Array,
    gram: Array,
    y: Array,
    l1: float,
    l2: float,
    tolerance: float,
    steps: int,
    b: Array,
    rows: Array,
    weighted: Array,
) -> tuple[float, float]:
    """Solve one problem into `b`; return the intercept for centred channels and the residual."""
    p, n = x.shape
    scale = max(1.0, np.max(np.abs(mean))) if p else 1.0  # an error of the intercept's counts that often
    rate = y.mean()
    b0 = np.log(rate / (1.0 - rate))
    eta, eta_new = np.full(n, b0), np.empty(n)
    r, r_new = np.empty(n), np.empty(n)
    g, g_new = np.empty(p), np.empty(p)
    b_new, slope = np.empty(p), np.zeros(p)
    active, place = np.empty(p, np.int64), np.full(p, -1)
    hessian = np.empty((p + 3, p + 3))
    small, linear, at, d = np.empty((p, p)), np.empty(p), np.empty(p), np.empty(p)
    g0 = _gradient(x, y, eta, r, g)
    residual = _violation(b, g, g0, l1, l2, scale)
    weight = rate * (1.0 - rate)  # of the intercept: the mean of the trials' weights
    shared, fresh, refresh, best = True, True, False, residual
    for _ in range(steps):
        if residual <= tolerance:
            break
        m = 0
        for j in range(p):
            if b[j] != 0.0 or abs(g[j]) > l1:
                active[m] = j
                m += 1
                refresh |= not shared and place[j] < 0
        if refresh:
            weight = _hessian(x, eta, b, g, l1, place, rows, weighted, hessian, slope)
            shared, fresh, refresh = False, True, False
        for i in range(m):
            j = active[i]
            at[i], linear[i] = b[j], g[j] if shared else g[j] - slope[j] * g0 / weight
            for o in range(m):
                q = active[o]
                small[i, o] = weight * gram[j, q] / n if shared else hessian[place[j], place[q]]
        _quadratic(small, linear, at, l1, l2, d, m, 1e-3 * residual)
        d0 = g0
        for i in range(m):
            d0 += 0.0 if shared else slope[active[i]] * d[i]
        d0 = -d0 / weight
        step, tried = 1.0, 0
        while True:
            eta_new[:] = eta + step * d0
            b_new[:] = b
            for i in range(m):
                if d[i] != 0.0:
                    move, row = step * d[i], x[active[i]]
                    for o in range(n):
                        eta_new[o] += move * row[o]
                    b_new[active[i]] = at[i] + d[i] if step == 1.0 else at[i] + move
            g0_new = _gradient(x, y, eta_new, r_new, g_new)
            left = _violation(b_new, g_new, g0_new, l1, l2, scale)
            if left <= 0.5 * best or (not fresh and tried == 0):
                break
            if tried == 0:
                old = _objective(y, eta, b, l1, l2)
                slack = g0 * d0
                for i in range(m):
                    slack += g[active[i]] * d[i] + l1 * (abs(at[i] + d[i]) - abs(at[i]))
                    slack += 0.5 * l2 * ((at[i] + d[i]) ** 2 - at[i] ** 2)
            if _objective(y, eta_new, b_new, l1, l2) <= old + 1e-4 * step * slack:
                break
            tried += 1
            step *= 0.5
            if tried == 40:  # rounding hides what is left to gain
                return b0, residual
        if not fresh and left > 0.5 * best:
            refresh = True  # a Hessian kept too long: this step is not taken
            continue
        b0 += step * d0
        b[:] = b_new
        eta, eta_new = eta_new, eta
        r, r_new = r_new, r
        g, g_new = g_new, g
        g0 = g0_new
        refresh = left > ENOUGH * residual
        best = min(best, left)
        fresh = False
        residual = left
    return b0, residual


@njit(cache=True, nogil=True, fastmath=FAST)
def _gradient(x: Array, y: Array, eta: Array, r: Array, g: Array) -> float:
    """Write the gradient without penalty into `g`, return the intercept's."""
    p, n = x.shape
    total = 0.0
    for i in range(n):
        r[i] = (1.0 / (1.0 + np.exp(-eta[i])) - y[i]) / n
        total += r[i]
    for j in range(p):
        s, row = 0.0, x[j]
        for i in range(n):
            s += row[i] * r[i]
        g[j] = s
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def _violation(b: Array, g: Array, g0: float, l1: float, l2: float, scale: float) -> float:
    """Return the largest violation of the optimality conditions."""
    worst = abs(g0) * scale
    for j in range(len(b)):
        if b[j] > 0.0:
            one = abs(g[j] + l2 * b[j] + l1)
        elif b[j] < 0.0:
            one = abs(g[j] + l2 * b[j] - l1)
        else:
            one = abs(g[j]) - l1
        worst = max(worst, one)
    return worst


@njit(cache=True, nogil=True, fastmath=FAST)
def _objective(y: Array, eta: Array, b: Array, l1: float, l2: float) -> float:
    total = 0.0
    for i in range(len(y)):
        total += max(eta[i], 0.0) + np.log1p(np.exp(-abs(eta[i]))) - y[i] * eta[i]
    total /= len(y)
    for j in range(len(b)):
        total += l1 * abs(b[j]) + 0.5 * l2 * b[j] * b[j]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def _hessian(
    x: Array,
    eta: Array,
    b: Array,
    g: Array,
    l1: float,
    place: Array,
    rows: Array,
    weighted: Array,
    hessian: Array,
    slope: Array,
) -> float:
    """Write the Hessian of all channels that are or may soon be active; return the intercept's entry.

    The intercept is eliminated: `hessian` is what remains after it follows every change of the channels
    (Schur complement), `slope` the entries between it and the channels. `place` says where a channel is.
    """
    p, n = x.shape
    m = 0
    for j in range(p):
        place[j] = -1
        if b[j] != 0.0 or abs(g[j]) > 0.8 * l1:
            place[j] = m
            m += 1
    weight = 0.0
    share = np.empty(n)
    for i in range(n):
        e = 1.0 / (1.0 + np.exp(-abs(eta[i])))
        share[i] = max(e * (1.0 - e), 1e-12) / n  # a saturated trial must not make a step infinite
        weight += share[i]
    for j in range(p):
        if place[j] >= 0:
            s, row, out, copy = 0.0, x[j], weighted[place[j]], rows[place[j]]
            for i in range(n):
                out[i] = row[i] * share[i]
                copy[i] = row[i]
                s += out[i]
            slope[j] = s
    rows[m : m + 3] = 0.0
    weighted[m : m + 3] = 0.0
    _products(rows, weighted, hessian, m)
    for j in range(p):
        for q in range(p):
            if place[j] >= 0 and place[q] >= 0:
                hessian[place[j], place[q]] -= slope[j] * slope[q] / weight
    return weight


@njit(cache=True, nogil=True, fastmath=FAST)
def _products(a: Array, b: Array, out: Array, m: int) -> None:
    """Write the symmetric products of the first m rows; rows m to m + 2 have to be there, and be zero.

    Four rows by four: every value that is loaded is used four times.
    """
    n = a.shape[1]
    for i in range(0, m, 4):
        for j in range(0, i + 1, 4):
            a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
            b0, b1, b2, b3 = b[j], b[j + 1], b[j + 2], b[j + 3]
            s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = 0.0
            s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = 0.0
            for t in range(n):
                s00 += a0[t] * b0[t]
                s01 += a0[t] * b1[t]
                s02 += a0[t] * b2[t]
                s03 += a0[t] * b3[t]
                s10 += a1[t] * b0[t]
                s11 += a1[t] * b1[t]
                s12 += a1[t] * b2[t]
                s13 += a1[t] * b3[t]
                s20 += a2[t] * b0[t]
                s21 += a2[t] * b1[t]
                s22 += a2[t] * b2[t]
                s23 += a2[t] * b3[t]
                s30 += a3[t] * b0[t]
                s31 += a3[t] * b1[t]
                s32 += a3[t] * b2[t]
                s33 += a3[t] * b3[t]
            out[i, j], out[i, j + 1], out[i, j + 2], out[i, j + 3] = s00, s01, s02, s03
            out[i + 1, j], out[i + 1, j + 1], out[i + 1, j + 2], out[i + 1, j + 3] = s10, s11, s12, s13
            out[i + 2, j], out[i + 2, j + 1], out[i + 2, j + 2], out[i + 2, j + 3] = s20, s21, s22, s23
            out[i + 3, j], out[i + 3, j + 1], out[i + 3, j + 2], out[i + 3, j + 3] = s30, s31, s32, s33
    for i in range(m):
        for j in range(i):
            out[j, i] = out[i, j]


@njit(cache=True, nogil=True, fastmath=FAST)
def _quadratic(h: Array, linear: Array, at: Array, l1: float, l2: float, d: Array, m: int, tolerance: float) -> None:
    """Minimise linear d + d'hd/2 + l1 |at + d| + l2/2 (at + d)^2 over d (m,), into `d`."""
    product = np.zeros(m)
    d[:m] = 0.0
    for sweep in range(2000):
        largest = 0.0
        for j in range(m):
            value = at[j] + d[j]
            curve = h[j, j] + l2
            if curve <= 1e-14:  # a column of zeros
                new = 0.0
            else:
                pull = h[j, j] * value - linear[j] - product[j]
                new = np.sign(pull) * max(abs(pull) - l1, 0.0) / curve
            change = new - value
            if change != 0.0:
                d[j] = new - at[j]
                largest = max(largest, abs(change) * curve)
                for i in range(m):
                    product[i] += change * h[j, i]
        if largest <= tolerance:
            return
        if sweep % 4 == 1:
            for _ in range(m):
                if not _jump(h, linear, at, l1, l2, d, m, product):
                    break


@njit(cache=True, nogil=True, fastmath=FAST)
def _jump(h: Array, linear: Array, at: Array, l1: float, l2: float, d: Array, m: int, product: Array) -> bool:
    """Move the non-zero channels to their joint minimum, or to where the first of them reaches zero.

    Where they depend on each other there is none; one of them is brought to zero then. Returns whether a
    channel reached zero, so that those left have another minimum.
    """
    where = np.empty(m, np.int64)
    s = 0
    for j in range(m):
        if at[j] + d[j] != 0.0:
            where[s] = j
            s += 1
    factor, target = np.empty((s, s)), np.empty(s)
    for i in range(s):
        j = where[i]
        value = at[j] + d[j]
        target[i] = -(linear[j] + product[j] + l1 * np.sign(value) + l2 * value)
        for o in range(i + 1):
            factor[i, o] = h[j, where[o]]
        factor[i, i] += l2
    for i in range(s):  # Cholesky
        for o in range(i + 1):
            total = factor[i, o]
            for q in range(o):
                total -= factor[i, q] * factor[o, q]
            if o < i:
                factor[i, o] = total / factor[o, o]
            elif total <= 1e-10 * (h[where[i], where[i]] + l2):
                return _drop_dependent(h, factor, where, target, i, at, d, m, product)
            else:
                factor[i, i] = np.sqrt(total)
    for i in range(s):
        for q in range(i):
            target[i] -= factor[i, q] * target[q]
        target[i] /= factor[i, i]
    for i in range(s - 1, -1, -1):
        for q in range(i + 1, s):
            target[i] -= factor[q, i] * target[q]
        target[i] /= factor[i, i]
    share, first = 1.0, -1
    for i in range(s):
        value = at[where[i]] + d[where[i]]
        if (value + target[i]) * value <= 0.0 and -value / target[i] < share:
            share, first = -value / target[i], i
    for i in range(s):
        j = where[i]
        change = -(at[j] + d[j]) if i == first else share * target[i]
        d[j] = -at[j] if i == first else d[j] + change
        for o in range(m):
            product[o] += change * h[j, o]
    return first >= 0


@njit(cache=True, nogil=True, fastmath=FAST)
def _drop_dependent(
    h: Array, factor: Array, where: Array, target: Array, i: int, at: Array, d: Array, m: int, product: Array
) -> bool:
    """Bring a channel to zero along the direction in which channel i and those before cancel out.

    No curvature lies that way, so the objective falls all along it or stays as it is.
    """
    z = np.empty(i + 1)
    z[i] = 1.0
    for o in range(i):  # row i of the factor is solved up to the diagonal
        z[o] = -factor[i, o]
    for o in range(i - 1, -1, -1):
        for q in range(o + 1, i):
            z[o] -= factor[q, o] * z[q]
        z[o] /= factor[o, o]
    fall, share, first = 0.0, np.inf, i
    for o in range(i + 1):
        fall += target[o] * z[o]
    value = at[where[i]] + d[where[i]]
    direction = np.sign(fall) if abs(fall) > 1e-12 * np.max(np.abs(z)) else -np.sign(value)
    for o in range(i + 1):
        value, step = at[where[o]] + d[where[o]], direction * z[o]
        if value * step < 0.0 and -value / step < share:
            share, first = -value / step, o
    if share == np.inf:
        return False
    for o in range(i + 1):
        j = where[o]
        change = -(at[j] + d[j]) if o == first else share * direction * z[o]
        d[j] = -at[j] if o == first else d[j] + change
        for q in range(m):
            product[q] += change * h[j, q]
    return True
