#!/usr/bin/env python3
"""Turns a text into a C source that holds its bytes: embed.py TEXT SOURCE NAME."""
import sys

text, source, name = sys.argv[1:]
data = open(text, 'rb').read()
with open(source, 'w', encoding='ascii') as out:
    out.write('#include <stddef.h>\n')
    out.write(f'extern const unsigned char {name}[];\nextern const size_t {name}_bytes;\n')
    out.write(f'const unsigned char {name}[] = {{\n')
    for at in range(0, len(data), 20):
        out.write(','.join(str(byte) for byte in data[at:at + 20]) + ',\n')
    out.write(f'}};\nconst size_t {name}_bytes = {len(data)};\n')
