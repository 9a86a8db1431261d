/* A reader of edgepack bundles, written from docs/bundle-format.md: see README.md. It answers the requests on its
 * standard input. Exit code 0 at the end of them, 2 if one is malformed, 3 if the machine failed. */
#include "request.h"

int main(void)
{
    enum reading read;
    do {
        static contents found;
        request asked;
        read = read_request(stdin, &asked);
        if (read == REQUEST_READ) {
            verdict said = read_bundle(&asked.device, view(&asked.bundle), &found);
            write_answer(stdout, said, &found);
            /* At once: whoever asked is waiting. */
            must(fflush(stdout) == 0, "standard output");
        }
        free_request(&asked);
    } while (read == REQUEST_READ);
    return read == REQUEST_NONE ? 0 : 2;
}
