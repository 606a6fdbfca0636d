/* The least that a durable receiver must do: take the PDUs of a sender off the socket, write the
 * data set, fsync, rename, fsync the folder, answer Success. It negotiates nothing, checks nothing
 * and trusts its sender: a measure, not a receiver. With FOLDER "-" it keeps nothing: then it
 * shows what sender and loopback can do.
 *
 *     limit PORT FOLDER        FOLDER holds tmp/ and new/
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ASSOCIATE_RQ = 1, ASSOCIATE_AC = 2, P_DATA = 4, RELEASE_RQ = 5, RELEASE_RP = 6 };
enum { MAXIMUM_PDU = 131072, HEAD = 6, PDV_HEAD = 6 };

static unsigned char pdu[MAXIMUM_PDU + HEAD];

static void fail(const char *what) {
    perror(what);
    _exit(1);
}

static int fill(int peer, unsigned char *to, size_t count) {
    while (count) {
        ssize_t got = recv(peer, to, count, 0);
        if (got <= 0) return 0;
        to += got;
        count -= (size_t)got;
    }
    return 1;
}

static void say(int peer, const void *data, size_t count) {
    if (send(peer, data, count, MSG_NOSIGNAL) != (ssize_t)count) fail("send");
}

static size_t item(unsigned char *at, int kind, const void *value, size_t length) {
    at[0] = (unsigned char)kind;
    at[1] = 0;
    at[2] = (unsigned char)(length >> 8);
    at[3] = (unsigned char)length;
    memcpy(at + 4, value, length);
    return length + 4;
}

/* A-ASSOCIATE-AC (PS3.8 9.3.3): context 1 accepted in Explicit VR Little Endian. */
static void accept_association(int peer) {
    static const char explicit_le[] = "1.2.840.10008.1.2.1", name[] = "1.2.840.10008.3.1.1.1";
    unsigned char answer[512] = {ASSOCIATE_AC}, inner[64] = {1};
    size_t at = 74;
    answer[7] = 1;
    memcpy(answer + 10, pdu + 10, 64);
    at += item(answer + at, 0x10, name, sizeof name - 1);
    at += item(answer + at, 0x21, inner, 4 + item(inner + 4, 0x40, explicit_le, sizeof explicit_le - 1));
    uint32_t maximum = htonl(MAXIMUM_PDU);
    at += item(answer + at, 0x50, inner, item(inner, 0x51, &maximum, 4));
    answer[4] = (unsigned char)((at - HEAD) >> 8);
    answer[5] = (unsigned char)(at - HEAD);
    say(peer, answer, at);
}

/* C-STORE-RSP (PS3.7 9.3.1.2), status Success; the sender's message ID is always 7. */
static void answer_success(int peer) {
    static const unsigned char response[] = {
        P_DATA, 0, 0, 0, 0, 58, 0, 0, 0, 54, 1, 3,
        0, 0, 0x00, 0x00, 4, 0, 0, 0, 40, 0, 0, 0,
        0, 0, 0x00, 0x01, 2, 0, 0, 0, 0x01, 0x80,
        0, 0, 0x20, 0x01, 2, 0, 0, 0, 7, 0,
        0, 0, 0x00, 0x08, 2, 0, 0, 0, 0x01, 0x01,
        0, 0, 0x00, 0x09, 2, 0, 0, 0, 0, 0};
    say(peer, response, sizeof response);
}

static void keep(int file, int folder, const char *name) {
    char from[64], to[64];
    snprintf(from, sizeof from, "tmp/%s", name);
    snprintf(to, sizeof to, "new/%s", name);
    if (fsync(file) || close(file)) fail("fsync");
    if (renameat(folder, from, folder, to)) fail("rename");
    int new = openat(folder, "new", O_RDONLY);
    if (new < 0 || fsync(new) || close(new)) fail("fsync of the folder");
}

static void serve(int peer, int folder) {
    char name[32], path[64];
    unsigned long number = 0;
    int file = -1, one = 1;
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (fill(peer, pdu, HEAD)) {
        uint32_t length;
        memcpy(&length, pdu + 2, 4);
        length = ntohl(length);
        if (length > MAXIMUM_PDU || !fill(peer, pdu + HEAD, length)) _exit(1);
        if (pdu[0] == ASSOCIATE_RQ) accept_association(peer);
        if (pdu[0] == RELEASE_RQ) {
            static const unsigned char release[10] = {RELEASE_RP, 0, 0, 0, 0, 4};
            say(peer, release, sizeof release);
        }
        if (pdu[0] != P_DATA) continue;
        int header = pdu[HEAD + 5];
        if (header & 1) { /* a command: one file begins */
            snprintf(name, sizeof name, "%d-%lu", (int)getpid(), number++);
            snprintf(path, sizeof path, "tmp/%s", name);
            if (folder >= 0 && (file = openat(folder, path, O_WRONLY | O_CREAT | O_EXCL, 0600)) < 0)
                fail(path);
            continue;
        }
        size_t count = length - PDV_HEAD;
        if (folder >= 0 && write(file, pdu + HEAD + PDV_HEAD, count) != (ssize_t)count) fail("write");
        if (header & 2) {
            if (folder >= 0) keep(file, folder, name);
            answer_success(peer);
        }
    }
    _exit(0);
}

int main(int count, char **words) {
    if (count != 3) return 2;
    int folder = strcmp(words[2], "-") ? open(words[2], O_RDONLY) : -1;
    if (folder < 0 && strcmp(words[2], "-")) fail(words[2]);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1]))};
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&place, sizeof place) || listen(listener, 16)) fail("bind");
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        while (waitpid(-1, NULL, WNOHANG) > 0) continue;
        if (peer < 0) continue;
        if (!fork()) serve(peer, folder);
        close(peer);
    }
}
