/*
 * stream: one TCP connection's bytes, with room for a transform (net/tls) between it and the
 * protocol above.
 *
 * Embedded in its owner (a session); belongs to the loop's thread. Without a transform, received
 * bytes reach on_data straight from the loop's buffers and sends go out from the caller's memory.
 * Callbacks never come from inside a call to this module. One send at a time (must()).
 */
#pragma once

#include "core/io/io.h"

struct stream;

struct stream_events {
    /* As io_recv.on_data: returns bytes used, fewer = paused with the rest kept. */
    size_t (*on_data)(struct stream *stream, const uint8_t *data, size_t len);
    /* The send ended: 0, or the reason. */
    void (*on_sent)(struct stream *stream, int32_t result);
    /* The peer's side ended (0) or the connection broke (negative). Sending may still be possible
     * after 0. Not called once stream_close was. */
    void (*on_end)(struct stream *stream, int32_t reason);
    /* stream_close is complete; the owner may free everything. */
    void (*on_closed)(struct stream *stream);
};

/* A transform turns wire bytes into plain bytes and back; state is its own. All calls are made on
 * the loop's thread, none may block. Returned lengths never exceed the room given. Either function
 * is called again as long as it used or produced something; decode also with no wire bytes, to
 * hand out what it still holds. */
struct stream_transform {
    /* Consumes wire bytes, produces plain bytes. Returns 0, negative, STREAM_ENDED (the peer says
     * nothing more; what follows is thrown away), or STREAM_LATER (nothing was used: the same
     * octets come again in a later turn). It may call its owner, who may send and close. */
    int (*decode)(void *state, const uint8_t *wire, size_t wire_bytes, size_t *ret_used,
                  uint8_t *plain, size_t plain_room, size_t *ret_plain);
    /* STREAM_LATER as above. */
    int (*encode)(void *state, const uint8_t *plain, size_t plain_bytes, size_t *ret_used,
                  uint8_t *wire, size_t wire_room, size_t *ret_wire);
    /* NULL, or whether it has wire bytes to say of its own accord: encode is then called without
     * plain bytes until it has no more. */
    bool (*has_output)(const void *state);
    /* NULL, or: we send nothing more, and what there is to be said of that is output now. */
    void (*finish)(void *state);
    bool marks_end; /* an end that decode has not told (STREAM_ENDED) is a loss: E_CUT_OFF */
};

enum {
    STREAM_ENDED = 1,
    STREAM_LATER = 2,
};

struct stream {
    struct io *io;
    const struct stream_events *events;
    const struct stream_transform *transform; /* NULL = plain */
    void *transform_state;
    struct stream_coder *coder; /* buffers of a transform; NULL without one */
    struct io_recv recv;
    struct io_op send_op;
    struct io_op close_op;
    int fd;
    int32_t sent_result; /* of the newest send, -ECANCELED until it ended; final in on_closed */
    bool closing;
};

/* Starts receiving. fd: connected. The stream owns fd from now on. */
void stream_open(struct stream *stream, struct io *io, int fd, const struct stream_events *events);
/* Puts a transform in; only while nothing is being sent. transform may be NULL (back to plain; not
 * from inside on_data). Octets that on_data did not use are read through the new transform. What
 * the transform has to say first is sent at once. 0, or -ENOMEM. */
int stream_set_transform(struct stream *stream, const struct stream_transform *transform,
                         void *state);
/* iov and bytes stay in place until on_sent; the array may be altered. */
void stream_send(struct stream *stream, struct iovec *iov, uint32_t iov_count);
bool stream_is_sending(const struct stream *stream);
/* As io_tcp_info; until stream_close. */
int stream_tcp_info(const struct stream *stream, struct io_tcp_info *ret_info);
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);
/* Ends everything; on_closed follows exactly once. A transform may say goodbye first, which takes
 * at most a second. */
void stream_close(struct stream *stream);
