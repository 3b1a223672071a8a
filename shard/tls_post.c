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
    copy->is_open = false;
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

/* Such as have no answer yet. */
static uint32_t copies_to(const struct tls_posts *posts, struct slice host)
{
    uint32_t count = 0;

    list_for_each (link, &posts->under_way) {
        const struct tls_post *post = container_of(link, struct tls_post, link);

        for (uint32_t i = 0; i < post->copy_count; i++)
            count += post->copies[i].is_open && slice_equal_nocase(post->copies[i].host, host);
    }
    return count;
}

static bool has_room(const struct tls_posts *posts, const struct tls_report_order *order)
{
    struct https_uri uri;

    if (posts->count == TLS_POSTS_MAX)
        return false;
    for (uint32_t i = 0; i < order->uri_count; i++)
        if (!https_uri_parse(slice_str(order->uris[i]), &uri) ||
            copies_to(posts, uri.host) + order->uri_count > TLS_POSTS_HOST_MAX)
            return false;
    return true;
}

static void begin_copy(struct tls_post *post, struct tls_post_copy *copy, const char *text,
                       struct slice report)
{
    struct https_uri uri;

    snprintf(copy->uri, sizeof(copy->uri), "%s", text);
    must(https_uri_parse(slice_str(copy->uri), &uri));
    copy->of = post;
    copy->is_open = true;
    copy->host = uri.host;
    copy->post = (struct sts_post){
        .uri = slice_str(copy->uri),
        .report = report,
        .on_done = on_answer,
    };
    sts_fetch_post(post->posts->fetch, &copy->post);
}

bool tls_posts_begin(struct tls_posts *posts, struct tls_report_order *order)
{
    struct tls_post *post;

    must(order->uri_count > 0 && order->uri_count <= TLSRPT_POST_TO_MAX);
    if (!has_room(posts, order))
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
    for (uint32_t i = 0; i < post->copy_count; i++)
        begin_copy(post, &post->copies[i], order->uris[i],
                   slice_of(post->content, order->content_bytes));
    return true;
}
