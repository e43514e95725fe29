/* SPDX-License-Identifier: Apache-2.0 */
/* Training steps of several processes give the bytes of one. The processes are forked and speak over socket pairs, so
 * that no MPI is needed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/engine.h"

enum { MOST_RANKS = 16, SIZE = 64, MOST = 40 };

/* Result of one process, sent to the test. */
typedef struct outcome {
    double loss;
    int correct, status;
    uint64_t gradients, statistics;
} outcome;

typedef struct trial {
    int n, ranks, batch, freeze_features, freeze_bn, dies; /* dies: rank that ends before the step, -1: none */
} trial;

static int sockets[MOST_RANKS][MOST_RANKS];

static sk_status send_bytes(void *user, int to, const void *bytes, size_t size, sk_error *err) {
    const char *at = bytes;
    while (size) {
        const ssize_t sent = send(sockets[*(int *)user][to], at, size, MSG_NOSIGNAL);
        if (sent <= 0) return sk_fail(err, SK_ERR_IO, "rank %d is lost", to);
        at += sent;
        size -= (size_t)sent;
    }
    return SK_OK;
}

static sk_status receive_bytes(void *user, int from, void *bytes, size_t size, sk_error *err) {
    char *at = bytes;
    while (size) {
        const ssize_t got = recv(sockets[*(int *)user][from], at, size, 0);
        if (got <= 0) return sk_fail(err, SK_ERR_IO, "rank %d is lost", from);
        at += got;
        size -= (size_t)got;
    }
    return SK_OK;
}

/* Hash of all gradients (or of the tensors without one: the running statistics). */
static uint64_t hash(const sk_model *model, const sk_engine *engine, int gradients) {
    uint64_t sum = 1;
    for (size_t i = 0; i < sk_model_tensor_count(model); i++) {
        sk_tensor tensor;
        const float *values = sk_engine_gradient(engine, i);
        if (sk_model_tensor((sk_model *)model, i, &tensor, NULL) != SK_OK) return 0;
        if (!gradients) values = tensor.data;
        if (values) sum = sk_hash64(sum ^ sk_hash_bytes(values, tensor.count * sizeof *values));
    }
    return sum;
}

static outcome take_step(const trial *t, sk_sync *sync) {
    outcome out = {.status = -1};
    sk_card card = sk_card_default(SK_ARCH_V3_SMALL);
    sk_model *model = NULL;
    sk_engine *engine = NULL;
    sk_error err = {0};
    int labels[MOST], first, last;
    const size_t picture = (size_t)SIZE * SIZE * 3;
    card.size = SIZE;
    const sk_engine_options options = {.batch = t->batch,
                                       .threads = 1,
                                       .dropout = .2f,
                                       .freeze_features = t->freeze_features,
                                       .freeze_bn = t->freeze_bn,
                                       .sync = sync};
    uint8_t *images = sk_calloc(MOST, picture);
    sk_sync_share(sync, t->n, &first, &last);
    for (size_t i = (size_t)first * picture; i < (size_t)last * picture; i++) images[i] = (uint8_t)sk_hash64(i);
    for (int i = 0; i < t->n; i++) labels[i] = i % 3 == 0;
    if (sk_model_create(&card, 1, &model, &err) == SK_OK && sk_engine_create(model, &options, &engine, &err) == SK_OK)
        out.status = (int)sk_engine_step(engine, images, labels, t->n, 7, &out.loss, &out.correct, &err);
    if (out.status == SK_OK) {
        out.gradients = hash(model, engine, 1);
        out.statistics = hash(model, engine, 0);
    }
    sk_engine_free(engine);
    sk_model_free(model);
    sk_free(images);
    return out;
}

/* Never returns: a process of the trial. */
static void be_rank(const trial *t, int rank, int result) {
    sk_sync sync = {rank, t->ranks, &rank, send_bytes, receive_bytes};
    for (int a = 0; a < t->ranks; a++)
        for (int b = 0; b < t->ranks; b++)
            if (a != b && a != rank) close(sockets[a][b]);
    if (rank == t->dies) _exit(0);
    const outcome out = take_step(t, t->ranks > 1 ? &sync : NULL);
    _exit(write(result, &out, sizeof out) != sizeof out);
}

static void run_trial(const trial *t, outcome out[MOST_RANKS]) {
    int result[MOST_RANKS][2];
    for (int a = 0; a < t->ranks; a++)
        for (int b = a + 1; b < t->ranks; b++) {
            int pair[2];
            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
            sockets[a][b] = pair[0];
            sockets[b][a] = pair[1];
        }
    for (int r = 0; r < t->ranks; r++) {
        assert_int_equal(pipe(result[r]), 0);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) be_rank(t, r, result[r][1]);
        close(result[r][1]);
    }
    for (int a = 0; a < t->ranks; a++)
        for (int b = 0; b < t->ranks; b++)
            if (a != b) close(sockets[a][b]);
    for (int r = 0; r < t->ranks; r++) {
        const ssize_t got = read(result[r][0], &out[r], sizeof out[r]);
        assert_int_equal(got, r == t->dies ? 0 : (ssize_t)sizeof out[r]);
        close(result[r][0]);
    }
    while (wait(NULL) > 0 || errno == EINTR) {
    }
}

static void compare(int n, int ranks, int freeze_features, int freeze_bn) {
    const trial one = {n, 1, MOST, freeze_features, freeze_bn, -1};
    const trial many = {n, ranks, MOST, freeze_features, freeze_bn, -1};
    outcome alone[MOST_RANKS], together[MOST_RANKS];
    run_trial(&one, alone);
    run_trial(&many, together);
    assert_int_equal(alone[0].status, SK_OK);
    for (int r = 0; r < ranks; r++) {
        assert_int_equal(together[r].status, SK_OK);
        assert_true(together[r].loss == alone[0].loss);
        assert_int_equal(together[r].correct, alone[0].correct);
        assert_true(together[r].gradients == alone[0].gradients);
        assert_true(together[r].statistics == alone[0].statistics);
    }
}

static void step_of_ranks(void **state) {
    (void)state;
    compare(40, 2, 0, 0);
    compare(33, 4, 0, 0);
    compare(16, 16, 0, 0);
}

/* Fewer pictures than chunks: the last ranks have none. */
static void small_batch(void **state) {
    (void)state;
    compare(5, 4, 0, 0);
    compare(3, 2, 0, 0);
}

static void frozen(void **state) {
    (void)state;
    compare(20, 2, 0, 1);
    compare(20, 4, 1, 0);
    compare(2, 4, 1, 0);
}

/* Any rank's end is an error of all others, not a standstill. */
static void lost_rank(void **state) {
    (void)state;
    for (int dies = 0; dies < 4; dies++) {
        const trial t = {20, 4, MOST, 0, 0, dies};
        outcome out[MOST_RANKS];
        run_trial(&t, out);
        for (int r = 0; r < 4; r++)
            if (r != dies) assert_int_equal(out[r].status, SK_ERR_IO);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(step_of_ranks), cmocka_unit_test(small_batch),
                                       cmocka_unit_test(frozen), cmocka_unit_test(lost_rank)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
