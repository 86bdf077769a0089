/* Opens a file while harmless signals come every millisecond, as they do in a Go program or a
 * shell, and a caught SIGHUP with them. Prints "opened", or the error. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_t opener;

static void on_signal(int number) { (void)number; }

static void *disturb(void *unused)
{
    (void)unused;
    for (;;) {
        pthread_kill(opener, SIGURG);
        pthread_kill(opener, SIGCHLD);
        pthread_kill(opener, SIGHUP);
        kill(getpid(), SIGURG);
        usleep(1000);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal };
    pthread_t disturber;
    if (argc != 2)
        return 2;
    sigaction(SIGURG, &action, NULL);
    sigaction(SIGCHLD, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    opener = pthread_self();
    pthread_create(&disturber, NULL, disturb, NULL);
    int file = open(argv[1], O_RDONLY);
    puts(file >= 0 ? "opened" : strerror(errno));
    fflush(stdout);
    _exit(file < 0);
}
