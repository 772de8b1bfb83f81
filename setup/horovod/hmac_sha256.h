// SHA-256 (FIPS 180-4) and HMAC (RFC 2104) for what Horovod's workers send to their launcher (see launcher.patch);
// nothing that Horovod is linked with brings them.

#ifndef RINGLAKE_HMAC_SHA256_H
#define RINGLAKE_HMAC_SHA256_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace horovod {
namespace common {

constexpr std::size_t SHA256_BLOCK = 64; // bytes

constexpr std::array<uint32_t, 64> SHA256_ROUNDS = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

inline uint32_t RotateRight(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

// The 32 bytes of the digest.
inline std::string Sha256(std::string message) {
  std::array<uint32_t, 8> state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const uint64_t length = 8 * static_cast<uint64_t>(message.size());
  message += '\x80';
  while (message.size() % SHA256_BLOCK != SHA256_BLOCK - 8) {
    message += '\0';
  }
  for (int shift = 56; shift >= 0; shift -= 8) {
    message += static_cast<char>(length >> shift);
  }
  for (std::size_t block = 0; block < message.size(); block += SHA256_BLOCK) {
    std::array<uint32_t, 64> words;
    for (std::size_t i = 0; i < 16; ++i) {
      words[i] = 0;
      for (std::size_t byte = 0; byte < 4; ++byte) {
        words[i] = words[i] << 8 | static_cast<unsigned char>(message[block + 4 * i + byte]);
      }
    }
    for (std::size_t i = 16; i < 64; ++i) {
      const uint32_t early = words[i - 15], late = words[i - 2];
      words[i] = words[i - 16] + words[i - 7] + (RotateRight(early, 7) ^ RotateRight(early, 18) ^ early >> 3) +
                 (RotateRight(late, 17) ^ RotateRight(late, 19) ^ late >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (std::size_t i = 0; i < 64; ++i) {
      const uint32_t first = h + (RotateRight(e, 6) ^ RotateRight(e, 11) ^ RotateRight(e, 25)) +
                             ((e & f) ^ (~e & g)) + SHA256_ROUNDS[i] + words[i];
      const uint32_t second =
          (RotateRight(a, 2) ^ RotateRight(a, 13) ^ RotateRight(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const std::array<uint32_t, 8> worked = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) {
      state[i] += worked[i];
    }
  }
  std::string digest;
  for (const uint32_t word : state) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      digest += static_cast<char>(word >> shift);
    }
  }
  return digest;
}

// The 32 bytes of the code.
inline std::string HmacSha256(std::string key, const std::string& message) {
  if (key.size() > SHA256_BLOCK) {
    key = Sha256(key);
  }
  key.resize(SHA256_BLOCK, '\0');
  std::string inner = key, outer = key;
  for (std::size_t i = 0; i < SHA256_BLOCK; ++i) {
    inner[i] ^= 0x36;
    outer[i] ^= 0x5c;
  }
  return Sha256(outer + Sha256(inner + message));
}

inline std::string Hex(const std::string& bytes) {
  std::string text;
  for (const unsigned char byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

} // namespace common
} // namespace horovod

#endif // RINGLAKE_HMAC_SHA256_H
