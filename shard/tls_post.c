#include "shard/tls_post.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <stdio.h>

void tls_posts_init(struct tls_posts *posts, struct sts_fetch *fetch, tls_post_done_fn *on_done)
{
    *posts = (struct tls_posts){.fetch = fetch, .on_done = on_done};
    list_init(&posts->under_way);
}

static void free_post(struct tls_post *post)
{
    list_remove(&post->link);
    mem_free(post->content);
    mem_free(post);
}

void tls_posts_fini(struct tls_posts *posts)
{
    while (!list_empty(&posts->under_way))
        free_post(container_of(posts->under_way.next, struct tls_post, link));
}

static void on_answer(struct sts_post *answered, enum sts_wire_result result, struct slice text)
{
    struct tls_post_copy *copy = container_of(answered, struct tls_post_copy, post);
    struct tls_post *post = copy->of;

    must(post->open_count > 0);
    post->open_count--;
    copy->is_taken = result == STS_WIRE_TAKEN;
    if (copy->is_taken)
        post->taken_count++;
    else
        snprintf(post->why, sizeof(post->why), "%.*s", (int)text.len, (const char *)text.data);
    if (post->open_count > 0)
        return;
    post->posts->count--;
    post->posts->on_done(post->posts, post);
    free_post(post);
}

bool tls_posts_begin(struct tls_posts *posts, struct tls_report_order *order)
{
    struct tls_post *post;

    must(order->uri_count > 0 && order->uri_count <= TLSRPT_POST_TO_MAX);
    if (posts->count == TLS_POSTS_MAX)
        return false;
    post = mem_alloc(sizeof(*post));
    post->posts = posts;
    posts->count++;
    list_push_back(&posts->under_way, &post->link);
    snprintf(post->domain, sizeof(post->domain), "%s", order->domain);
    post->from_s = order->from_s;
    post->until_s = order->until_s;
    post->content = order->content;
    order->content = NULL;
    post->copy_count = post->open_count = order->uri_count;
    for (uint32_t i = 0; i < post->copy_count; i++) {
        struct tls_post_copy *copy = &post->copies[i];

        copy->of = post;
        snprintf(copy->uri, sizeof(copy->uri), "%s", order->uris[i]);
        copy->post = (struct sts_post){
            .uri = slice_str(copy->uri),
            .report = slice_of(post->content, order->content_bytes),
            .on_done = on_answer,
        };
        sts_fetch_post(posts->fetch, &copy->post);
    }
    return true;
}
