// Decoding a few tokens at a time on a CPU: a product with a matrix, attention to a cache, and all
// layers of a decoder.
//
// A forward for one token takes as long as reading its matrices from memory, if all else is small.
// So the layers are one parallel region, each of whose threads reads one piece of every matrix from
// beginning to end, once for all tokens. Matrices and caches are float or bfloat16, the rest float.
// A token's results depend neither on the other tokens nor on the number of threads.
//
// Shapes: N tokens, M of them with an output, D hidden size, H attention heads, G heads of keys and
// values, E head size, F feed-forward size, B sequences, T tokens of each, K positions in the
// cache, P matrices that each multiply their own tokens.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif
constexpr int MOST_TOKENS = LANES / 2;  // whose sums of a product fit into the registers
constexpr size_t LINE = 64;     // bytes of a line of the cache
constexpr int SUMS = 2;         // of a product, added to in turns, as adding takes several cycles
constexpr int FAR = 8192;       // bytes: what later products read is fetched this early

struct BFloat16 {
    uint16_t bits;
};

// Memory in whole lines of the cache: a vector across two of them takes twice as long to load.
class Floats {
   public:
    explicit Floats(long count)
        : from_((float*)::operator new[](count * sizeof(float), std::align_val_t(LINE))) {}
    ~Floats() { ::operator delete[](from_, std::align_val_t(LINE)); }
    Floats(const Floats&) = delete;
    float* get() const { return from_; }

   private:
    float* const from_;
};

// Vectors as in GCC and clang, and the same at any address.
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef float AnyFloats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t AnyHalves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

inline Vector load(const float* from) { return *(const AnyFloats*)from; }
inline Vector load(const BFloat16* from) {
    return (Vector)(__builtin_convertvector(*(const AnyHalves*)from, Words) << 16);
}

inline float get(const float* from) { return *from; }
inline float get(const BFloat16* from) {
    const uint32_t word = uint32_t(from->bits) << 16;
    float x;
    std::memcpy(&x, &word, sizeof x);
    return x;
}

// Up to LANES elements, and zeros.
template <class W>
inline Vector load_some(const W* from, long count) {
    if (count >= LANES) return load(from);
    Vector x = {};
    for (int i = 0; i < count; i++) x[i] = get(from + i);
    return x;
}

#if defined(__AVX512BW__) && defined(__AVX512VL__)  // in one operation
inline uint16_t first_lanes(long count) { return (1u << std::min<long>(count, LANES)) - 1; }

inline Vector load_some(const float* from, long count) {
    return (Vector)_mm512_maskz_loadu_ps(first_lanes(count), from);
}
inline Vector load_some(const BFloat16* from, long count) {
    const __m256i halves = _mm256_maskz_loadu_epi16(first_lanes(count), from);
    return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
}
#endif

inline void put(float* to, float x) { *to = x; }
inline void put(BFloat16* to, float x) {  // rounds to nearest, ties to even
    uint32_t word;
    std::memcpy(&word, &x, sizeof x);
    to->bits = std::isnan(x) ? 0x7fc0 : (word + 0x7fff + ((word >> 16) & 1)) >> 16;
}

typedef float Four __attribute__((vector_size(16)));
typedef float Eight __attribute__((vector_size(32)));

inline float total(Four x) { return (x[0] + x[2]) + (x[1] + x[3]); }

inline float total(Eight x) {
    Four halves[2];
    std::memcpy(halves, &x, sizeof x);
    return total(halves[0] + halves[1]);
}

#ifdef __AVX512F__
inline float total(Vector x) {
    Eight halves[2];
    std::memcpy(halves, &x, sizeof x);
    return total(halves[0] + halves[1]);
}
#endif

#ifdef __AVX512F__
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#else
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#endif

inline Vector add_neighbours(Vector x, Vector y) {
#ifdef __clang__
    return __builtin_shufflevector(x, y, EVEN) + __builtin_shufflevector(x, y, ODD);
#else
    return __builtin_shuffle(x, y, Integers{EVEN}) + __builtin_shuffle(x, y, Integers{ODD});
#endif
}

// The totals of LANES vectors.
template <int N = LANES>
inline Vector totals(const Vector (&x)[N]) {
    if constexpr (N == 1) {
        return x[0];
    } else {
        Vector pairs[N / 2];
        for (int n = 0; n < N / 2; n++) pairs[n] = add_neighbours(x[2 * n], x[2 * n + 1]);
        return totals<N / 2>(pairs);
    }
}

// exp of numbers up to 0, with a relative error of 2e-7; those below -87 count as -87.
inline Vector exponential(Vector x) {
    const Vector least = Vector{} - 87;
    x = x < least ? least : x;
    // x = k log 2 + rest. Adding 1.5 x 2^23 rounds to whole numbers; log 2 is given in two parts.
    const Vector k = (x * 1.44269504f + 12582912.f) - 12582912.f;
    const Vector rest = x - k * 0.693359375f + k * 2.12194440e-4f;
    Vector sum = rest * (1.f / 5040) + 1.f / 720;
    for (float factor : {1.f / 120, 1.f / 24, 1.f / 6, 1.f / 2, 1.f, 1.f})
        sum = sum * rest + factor;
    return sum * (Vector)((__builtin_convertvector(k, Integers) + 127) << 23);
}

// The products of one row with N tokens, all of `size` elements.
template <int N, int AHEAD = 0, class W>
inline void dots(const W* row, const float* tokens, long size, float* out) {
    Vector sums[N][SUMS] = {};
    long i = 0;
    for (; i + SUMS * LANES <= size; i += SUMS * LANES)
        for (int s = 0; s < SUMS; s++) {
            const W* const from = row + i + s * LANES;
            if (AHEAD && s * LANES * sizeof(W) % LINE == 0)
                __builtin_prefetch((const char*)from + AHEAD, 0, 0);
            const Vector weights = load(from);
            for (int n = 0; n < N; n++)
                sums[n][s] += weights * load(tokens + n * size + i + s * LANES);
        }
    for (int n = 0; n < N; n++) out[n] = total(sums[n][0] + sums[n][1]);
    for (; i < size; i += LANES) {  // apart from the sums, so that these stay in registers
        const Vector weights = load_some(row + i, size - i);
        for (int n = 0; n < N; n++)
            out[n] += total(weights * load_some(tokens + n * size + i, size - i));
    }
}

// Goes through `size` columns by up to four vectors: calls take(number of vectors, first column,
// columns), with constants for four whole vectors.
template <class Take>
inline void by_columns(long size, Take take) {
    long first = 0;
    for (; first + 4 * LANES <= size; first += 4 * LANES)
        take(std::integral_constant<int, 4>(), first, std::integral_constant<long, 4 * LANES>());
    const long rest = size - first;
    if (rest > 3 * LANES)
        take(std::integral_constant<int, 4>(), first, rest);
    else if (rest > 2 * LANES)
        take(std::integral_constant<int, 3>(), first, rest);
    else if (rest > LANES)
        take(std::integral_constant<int, 2>(), first, rest);
    else if (rest > 0)
        take(std::integral_constant<int, 1>(), first, rest);
}

// The vector at column i * LANES of `columns`, which fill all of VECTORS but the last, or, where
// their number is a constant, all.
template <int VECTORS, class A, class Columns>
inline Vector column(const A* from, int i, Columns columns) {
    if (i + 1 < VECTORS || !std::is_same<Columns, long>::value) return load(from + i * LANES);
    return load_some(from + i * LANES, columns - i * LANES);
}

// The products of a query with `count` keys, LANES at a time, all of `size` elements.
// Apart from its caller, for which GCC has no registers left if this is a part of it.
template <class A>
[[gnu::noinline]] void products_with_keys(const float* query, const A* keys, long count, long size,
                                          float* out) {
    for (long key = 0; key < count; key += LANES) {
        Vector sums[LANES] = {};
        by_columns(size, [&](auto vectors, long first, auto columns) {
            const A* const from = keys + key * size + first;
            Vector parts[vectors];
            for (int i = 0; i < vectors; i++) parts[i] = column<vectors>(query + first, i, columns);
#pragma GCC unroll 16
            for (int n = 0; n < LANES; n++)
                for (int i = 0; i < vectors; i++)
                    sums[n] += parts[i] * column<vectors>(from + n * size, i, columns);
        });
        const Vector products = totals(sums);
        std::memcpy(out + key, &products, sizeof products);
    }
}

template <int N, int P, class W, class Take>
inline void multiply_exactly(const W* const (&matrices)[P], long rows, const float* tokens,
                             long size, Take take) {
#pragma omp for schedule(static) nowait
    for (long row = 0; row < rows; row++) {
        float products[P][N];
        for (int p = 0; p < P; p++)
            dots<N, FAR>(matrices[p] + row * size, tokens, size, products[p]);
        for (int n = 0; n < N; n++) {
            float of_token[P];
            for (int p = 0; p < P; p++) of_token[p] = products[p][n];
            take(row, n, of_token);
        }
    }
}

template <int P, int N = MOST_TOKENS, class W, class Take>
inline void multiply_few(const W* const (&matrices)[P], long rows, const float* tokens, long count,
                         long size, Take take) {
    if (count == N)
        multiply_exactly<N>(matrices, rows, tokens, size, take);
    else if constexpr (N > 1)
        multiply_few<P, N - 1>(matrices, rows, tokens, count, size, take);
}

// Multiplies P matrices [rows, size] with tokens [count, size] on all threads of a region, which do
// not wait for each other, and calls take(row, token, products).
template <int P, class W, class Take>
inline void multiply(const W* const (&matrices)[P], long rows, const float* tokens, long count,
                     long size, Take take) {
    for (long first = 0; first < count; first += MOST_TOKENS)
        multiply_few<P>(matrices, rows, tokens + first * size,
                        std::min<long>(count - first, MOST_TOKENS), size,
                        [=](long row, long n, const float* y) { take(row, first + n, y); });
}

template <class A>
void normalize(const A* x, const float* scale, float eps, long size, float* out) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (long i = 0; i < size; i++) squares += get(x + i) * get(x + i);
    const float factor = 1 / std::sqrt(squares / size + eps);
    for (long i = 0; i < size; i++) out[i] = get(x + i) * factor * scale[i];
}

// Rotates neighbouring pairs; `rotations` are pairs of cosine and sine.
void rotate(float* x, const float* rotations, long size) {
    for (long i = 0; i < size; i += 2) {
        const float even = x[i], odd = x[i + 1], cosine = rotations[i], sine = rotations[i + 1];
        x[i] = even * cosine - odd * sine;
        x[i + 1] = even * sine + odd * cosine;
    }
}

// out[size] = sum over `count` rows of weights[row] * rows[row], [count, size].
template <class A>
void mix(const float* weights, const A* rows, long count, long size, float* out) {
    by_columns(size, [=](auto vectors, long first, auto columns) {
        constexpr int TURNS = 4 / vectors;  // sums of a column, as adding takes several cycles
        Vector sums[TURNS][vectors] = {};
        const A* const from = rows + first;
        long row = 0;
        for (; row + TURNS <= count; row += TURNS)
#pragma GCC unroll 4
            for (int turn = 0; turn < TURNS; turn++)
                for (int i = 0; i < vectors; i++)
                    sums[turn][i] += weights[row + turn] *
                                     column<vectors>(from + (row + turn) * size, i, columns);
        for (; row < count; row++)
            for (int i = 0; i < vectors; i++)
                sums[0][i] += weights[row] * column<vectors>(from + row * size, i, columns);
        for (int turn = 1; turn < TURNS; turn++)
            for (int i = 0; i < vectors; i++) sums[0][i] += sums[turn][i];
        std::memcpy(out + first, sums[0], columns * sizeof(float));
    });
}

inline long padded(long count) { return (count + LANES - 1) / LANES * LANES; }

// Where the keys, [K, E], or from `head` + G on the values are, in a cache [B, 2, G, K, E].
template <class A>
inline A* part(A* cache, long row, long head, long groups, long capacity, long size) {
    return cache + (row * 2 * groups + head) * capacity * size;
}

// What `query` [size] attends to among `count` keys and values [count, size].
template <class A>
void attend(const float* query, const A* keys, const A* values, long count, long size,
            float* scores, float* out) {
    const float scale = 1 / std::sqrt(float(size));
    Vector largest = Vector{} - INFINITY, sums = {};
    const long end = padded(count);
    // Adding up within vectors takes as long as a few products, and many hide it.
    const long together = size < 4 * LANES ? count / LANES * LANES : 0;
    products_with_keys(query, keys, together, size, scores);
    long key = together;
    for (; key < count; key++) dots<1>(keys + key * size, query, size, scores + key);
    for (; key < end; key++) scores[key] = -INFINITY;
    for (long i = 0; i < count; i++) scores[i] *= scale;
    for (long i = 0; i < end; i += LANES) {
        const Vector x = load(scores + i);
        largest = x > largest ? x : largest;
    }
    float top = -INFINITY;
    for (int i = 0; i < LANES; i++) top = std::max(top, largest[i]);
    for (long i = 0; i < end; i += LANES) {
        const Vector x = exponential(load(scores + i) - top);
        std::memcpy(scores + i, &x, sizeof x);
    }
    for (long i = count; i < end; i++) scores[i] = 0;
    for (long i = 0; i < end; i += LANES) sums += load(scores + i);
    const float sum = total(sums);
    for (long i = 0; i < count; i++) scores[i] /= sum;
    mix(scores, values, count, size, out);
}

}  // namespace

struct Layer {  // as in cpu_kernels.py
    int64_t dim, heads, groups, head_size, hidden_size;
    double attention_eps, feed_forward_eps;
    const float *attention_scale, *feed_forward_scale;
    const float* bias;  // [(H + 2 G) E] or null
    const void *wq, *wk, *wv, *wo, *w1, *w3, *w2;
};

namespace {

template <class W, class A>
void run_layers(const Layer* layers, long number, const A* hidden, A* out, A* const* caches,
                long capacity, long count, long length, const int64_t* positions,
                const float* rotations, const int64_t* chosen, long chosen_count, int threads) {
    const long dim = layers->dim, size = layers->head_size, hidden_size = layers->hidden_size;
    const long heads = layers->heads, groups = layers->groups, all = heads + 2 * groups;
    const long longest = padded(*std::max_element(positions, positions + count) + 1);
    const Floats memory(count * (2 * dim + (all + heads) * size + hidden_size));
    float* const state = memory.get();  // [N, D], and likewise:
    float* const qkv = state + count * dim;
    float* const mixed = qkv + count * all * size;
    float* const between = mixed + count * heads * size;
    float* const gated = between + count * dim;
    for (long i = 0; i < count * dim; i++) state[i] = get(hidden + i);

#pragma omp parallel num_threads(threads)
    {
        const Floats own(count * dim + longest);
        float *const normed = own.get(), *const scores = normed + count * dim;
        for (long l = 0; l < number; l++) {
            const Layer& layer = layers[l];
            const bool choose = chosen && l + 1 == number;
            const long kept = choose ? chosen_count : count;
            const auto source = [=](long m) { return choose ? chosen[m] : m; };

            for (long n = 0; n < count; n++)
                normalize(state + n * dim, layer.attention_scale, layer.attention_eps, dim,
                          normed + n * dim);
            const auto project = [=, &layer](const void* matrix, long first, long rows) {
                multiply<1>({(const W*)matrix}, rows, normed, count, dim,
                            [=, &layer](long row, long n, const float* y) {
                                qkv[n * all * size + first + row] =
                                    layer.bias ? *y + layer.bias[first + row] : *y;
                            });
            };
            project(layer.wq, 0, heads * size);
            project(layer.wk, heads * size, groups * size);
            project(layer.wv, (heads + groups) * size, groups * size);
#pragma omp barrier

#pragma omp for schedule(static)
            for (long i = 0; i < count * all; i++) {
                const long n = i / all, head = i % all;
                if (head < heads + groups) rotate(qkv + i * size, rotations + n * size, size);
                if (head < heads) continue;
                A* const to =
                    part(caches[l], n / length, head - heads, groups, capacity, size) +
                    positions[n] * size;
                for (long e = 0; e < size; e++) put(to + e, qkv[i * size + e]);
            }

#pragma omp for schedule(static)
            for (long i = 0; i < kept * heads; i++) {
                const long n = source(i / heads), head = i % heads;
                const A* const keys = part(caches[l], n / length, head / (heads / groups), groups,
                                           capacity, size);
                attend(qkv + (n * all + head) * size, keys, keys + groups * capacity * size,
                       positions[n] + 1, size, scores, mixed + i * size);
            }

            multiply<1>({(const W*)layer.wo}, dim, mixed, kept, heads * size,
                        [=](long row, long m, const float* y) {
                            between[m * dim + row] = state[source(m) * dim + row] + *y;
                        });
#pragma omp barrier

            for (long m = 0; m < kept; m++)
                normalize(between + m * dim, layer.feed_forward_scale, layer.feed_forward_eps, dim,
                          normed + m * dim);
            multiply<2>({(const W*)layer.w1, (const W*)layer.w3}, hidden_size, normed, kept, dim,
                        [=](long row, long m, const float* y) {
                            gated[m * hidden_size + row] = y[0] / (1 + std::exp(-y[0])) * y[1];
                        });
#pragma omp barrier

            multiply<1>({(const W*)layer.w2}, dim, gated, kept, hidden_size,
                        [=](long row, long m, const float* y) {
                            state[m * dim + row] = between[m * dim + row] + *y;
                        });
#pragma omp barrier
        }
    }
    for (long i = 0; i < (chosen ? chosen_count : count) * dim; i++) put(out + i, state[i]);
}

template <class A>
void run_attention(const A* queries, const A* cache, A* out, long capacity, long count,
                   long length, long heads, long groups, long size, const int64_t* positions,
                   int threads) {
    const long longest = padded(*std::max_element(positions, positions + count) + 1);
#pragma omp parallel num_threads(threads)
    {
        const Floats own(longest + 2 * size);
        float *const scores = own.get(), *const query = scores + longest;
        float* const mixed = query + size;
#pragma omp for schedule(static)
        for (long i = 0; i < count * heads; i++) {
            const long n = i / heads, head = i % heads;
            for (long e = 0; e < size; e++) query[e] = get(queries + i * size + e);
            const A* const keys =
                part(cache, n / length, head / (heads / groups), groups, capacity, size);
            attend(query, keys, keys + groups * capacity * size, positions[n] + 1, size, scores,
                   mixed);
            for (long e = 0; e < size; e++) put(out + i * size + e, mixed[e]);
        }
    }
}

template <class W, class A>
void run_linear(const W* const* matrices, long number, long rows, long size, const A* tokens,
                long count, A* out, int threads) {
    const Floats memory(number * count * size);
    float* const from = memory.get();  // [P, N, D]
    for (long p = 0; p < number; p++)
        for (long n = 0; n < count; n++)
            for (long i = 0; i < size; i++)
                from[(p * count + n) * size + i] = get(tokens + (n * number + p) * size + i);
#pragma omp parallel num_threads(threads)
    for (long p = 0; p < number; p++)
        multiply<1>({matrices[p]}, rows, from + p * count * size, count, size,
                    [=](long row, long n, const float* y) {
                        put(out + (n * number + p) * rows + row, *y);
                    });
}

}  // namespace

extern "C" int most_tokens() { return MOST_TOKENS; }

// By the type of activations.
#define ATTENTION(NAME, A)                                                                        \
    extern "C" void attention_##NAME(const A* queries, const A* cache, A* out, long capacity,     \
                                     long count, long length, long heads, long groups, long size, \
                                     const int64_t* positions, int threads) {                     \
        run_attention(queries, cache, out, capacity, count, length, heads, groups, size,          \
                      positions, threads);                                                        \
    }
ATTENTION(float32, float)
ATTENTION(bfloat16, BFloat16)

// By the types of matrices and of activations.
#define KERNELS(NAME, W, A)                                                                       \
    extern "C" void layers_##NAME(const Layer* layers, long number, const A* hidden, A* out,      \
                                  A* const* caches, long capacity, long count, long length,       \
                                  const int64_t* positions, const float* rotations,               \
                                  const int64_t* chosen, long chosen_count, int threads) {        \
        run_layers<W, A>(layers, number, hidden, out, caches, capacity, count, length, positions, \
                         rotations, chosen, chosen_count, threads);                               \
    }                                                                                             \
    extern "C" void linear_##NAME(const W* const* matrices, long number, long rows, long size,    \
                                  const A* tokens, long count, A* out, int threads) {             \
        run_linear(matrices, number, rows, size, tokens, count, out, threads);                    \
    }
KERNELS(float32_float32, float, float)
KERNELS(bfloat16_float32, BFloat16, float)
KERNELS(bfloat16_bfloat16, BFloat16, BFloat16)
