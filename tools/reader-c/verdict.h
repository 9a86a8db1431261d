/* What a reader says of a bundle: the numbered step of docs/bundle-format.md that refuses it, and how. */
#ifndef VERDICT_H
#define VERDICT_H

/* The outcomes of tests/vectors/README.md, in its order. */
enum outcome { OK, PREAMBLE, FORMAT, SIGNATURE, POLICY, NO_GRANT, UNWRAP, PAYLOAD, COMMITMENT, META, REQUIRES };

typedef struct {
    enum outcome outcome;
    int step;
} verdict;

/* Refuse, at this step of the document, unless the condition holds. */
#define REQUIRE(condition, outcome, step)          \
    do {                                           \
        if (!(condition))                          \
            return (verdict){(outcome), (step)};   \
    } while (0)

/* Go on only if what is asked accepts. */
#define TRY(question)                              \
    do {                                           \
        verdict found_ = (question);               \
        if (found_.outcome != OK)                  \
            return found_;                         \
    } while (0)

#define ACCEPT return (verdict){OK, 0}

#endif
