/*
 * replay: feeds every file of a corpus to the fuzz target that is linked in. For unit tests, with
 * any compiler.
 */
#pragma once

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REPLAY_FILE_MAX (1u << 20)

/* Returns how many files there were; each lies in memory of exactly its size. */
static inline unsigned replay_corpus(const char *folder)
{
    DIR *dir = opendir(folder);
    unsigned count = 0;

    if (dir == NULL)
        return 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        uint8_t *room;
        uint8_t *exact;
        char path[1024];
        size_t len = 0;
        FILE *file;

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        file = fopen(path, "rb");
        room = malloc(REPLAY_FILE_MAX);
        if (file == NULL || room == NULL)
            abort();
        len = fread(room, 1, REPLAY_FILE_MAX, file);
        fclose(file);
        exact = realloc(room, len > 0 ? len : 1);
        LLVMFuzzerTestOneInput(exact, len);
        free(exact);
        count++;
    }
    closedir(dir);
    return count;
}
