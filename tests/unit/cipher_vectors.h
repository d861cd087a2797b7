/* SPDX-License-Identifier: BSD-3-Clause */
/* cipher_vectors.h - known answers, made by cipher-vectors.py. */
#ifndef CIPHER_VECTORS_H
#define CIPHER_VECTORS_H

#define VECTOR_SECTORS 37
#define VECTOR_FIRST UINT64_C (0x1fffffff0)

/* The SHA-256 of the sectors. */
static const struct {
  const char *name, *mode;
  size_t key_bytes;
  const char *sha256;
} vectors[] = {
  { "aes", "ecb", 16,
    "2c2e967bb8e08ee2bda2ae11fc9fac36"
    "b6d85a2c4d5148cd9759936e4e4e1227" },
  { "aes", "cbc-plain64", 16,
    "5501573856e0d4de3cd41fe1d6bf6651"
    "1572c9e865c6d712bacb0d5899a70b2e" },
  { "aes", "cbc-essiv:md5", 16,
    "59dcf2f86b0c3aec12ffafcae205c873"
    "dedf24ef0f34f40746b04249ecfd3052" },
  { "aes", "cbc-essiv:sha256", 16,
    "afcf016214d607b3e77bf33cdd3b4b15"
    "6955816a3cd1cc0acf9582452dee874c" },
  { "aes", "cbc-essiv:sm3", 16,
    "8e587f84cf1dfd33bc8d73a9b1720a01"
    "79ef356b3adf96602fe4f6cc7fd0ba01" },
  { "aes", "ctr-plain64", 16,
    "41325abc4c2770436fc8266b43db39c7"
    "42e5aafe74210ef1783bee3546a7944f" },
  { "aes", "ctr-essiv:md5", 16,
    "f139bbfe1ff312385cf1058d5e553b48"
    "823595c81f7aea2b58c2cb0a27af8b6e" },
  { "aes", "ctr-essiv:sha256", 16,
    "3dcd1420889926f2b3ebf43b416054da"
    "36ee13260d4c854ee1336d365212f17c" },
  { "aes", "ctr-essiv:sm3", 16,
    "057144df61f21fdc0c01e741d8b03d6d"
    "76b79af6efbce4931a0fa43481511413" },
  { "aes", "xts-plain64", 32,
    "c18329025bae961ba49dfe3caacedc93"
    "31fce7a8140c193057923caa65af97e9" },
  { "aes", "xts-essiv:md5", 32,
    "b3da43200b190621b0428e5e09aeef54"
    "f44beb9e3fd9fcb9b32143827ba13a81" },
  { "aes", "xts-essiv:sha256", 32,
    "0ccb26b73c66390cb97e839440693d51"
    "12bb974840349fec58b7820f81fdf1b3" },
  { "aes", "xts-essiv:sm3", 32,
    "f285ab4bd88264ec5116fa9d1c4d9221"
    "9931dc7a973bc6b5cb389be788daf348" },
  { "aes", "cbc-plain", 16,
    "92b1a1ae97317c963e8ada6da797bd70"
    "9fbd4874a0997ce9a048c9ad4dbb0fc4" },
  { "aes", "ecb", 24,
    "6d98943664a31cca7d1bd70badca5fcf"
    "b2584a71882b2ec764bbbc5c84d687df" },
  { "aes", "cbc-plain64", 24,
    "0832530dd03b33125c61ca6b254a4d51"
    "3eff1022d10267a7156c15317443d213" },
  { "aes", "cbc-essiv:md5", 24,
    "bdc51aecb6e8b321f0dd702cd99f64f0"
    "97a02bb401a50484f1ffd652cbfae62a" },
  { "aes", "cbc-essiv:sha256", 24,
    "816f9838f3fae9dbf130919e398c6ea8"
    "b144fe28ba678f52739162f8d1db4984" },
  { "aes", "cbc-essiv:sm3", 24,
    "8c33b66cdf38198eca546f2eb45dbe8f"
    "29e9d163424e3c174aa0c9f2ae3b1f86" },
  { "aes", "ctr-plain64", 24,
    "112cc5d8490594efc87f76266b14e2d2"
    "1ba0475786e126927791671f17646c00" },
  { "aes", "ctr-essiv:md5", 24,
    "0f1ca8356cf2c0f8f3085aeb8d42417a"
    "18415300d287d84435dd12415a065cff" },
  { "aes", "ctr-essiv:sha256", 24,
    "51e14fa79678ed460e42e8acd9236ec5"
    "0a8f949df25fe972601d0953f7063767" },
  { "aes", "ctr-essiv:sm3", 24,
    "fea7a98893ef70e82a6f1b03225f0d05"
    "8d7a19dba13d00c1e64309baf45cbb96" },
  { "aes", "xts-plain64", 48,
    "e12e00ec642a8ba930c8c4225574934c"
    "0ec759cff4a47fd35dadac4d3709f3c9" },
  { "aes", "xts-essiv:md5", 48,
    "985bb77b9f6b743ba3d612f9a52399e2"
    "503e4846be4e4c989c2530dd15f6cb93" },
  { "aes", "xts-essiv:sha256", 48,
    "b808417da6afc735c1b15e7edad880a3"
    "e43ddfa77bb6bb910c5063dc13a4ec27" },
  { "aes", "xts-essiv:sm3", 48,
    "5c1f9da115124cb8932e0fd1e7aa531e"
    "66765c15ce8aabf4133c271cba72ed02" },
  { "aes", "cbc-plain", 24,
    "7edd3b211f85f69ccb40e705cb3dcf43"
    "1acf52df5bde92bead40bb55c25fcb8c" },
  { "aes", "ecb", 32,
    "cd31d393d01a98b30d899d62d2aea541"
    "c02dbc339b3c088646b36d1557cf44f9" },
  { "aes", "cbc-plain64", 32,
    "fd97e863e5ac6053dbeee0f33b908501"
    "9c24e32c59a8ac54a35e8927c8f69197" },
  { "aes", "cbc-essiv:md5", 32,
    "2607f9f9a71890cccb673bf00b011afb"
    "c88977c6f6a46df2946bfcec812f3aae" },
  { "aes", "cbc-essiv:sha256", 32,
    "189e1ae407e5f6f0d730f6fbd9356c8e"
    "ef21099a833fb20ab9eb160d18af2c0c" },
  { "aes", "cbc-essiv:sm3", 32,
    "d7c50529404246dde2369bd906ec3a6f"
    "007175f2741f105db0c41b866794b6cd" },
  { "aes", "ctr-plain64", 32,
    "cc2ba4082b1a6c821000cc377df2fa30"
    "b806dd638348d2f6e1170c1f9cb8f912" },
  { "aes", "ctr-essiv:md5", 32,
    "3516b3e3732ac21c11532657b2f46b3e"
    "265a1cea5d57588c8e22493aa07ce129" },
  { "aes", "ctr-essiv:sha256", 32,
    "a5941beeb54544216b575c9439888068"
    "749e6e583e791a358bfc925c1660287c" },
  { "aes", "ctr-essiv:sm3", 32,
    "5fbb3e20cf35df80fdcc8a1037ccf685"
    "b4c1331ffae01c71173b92cd7e7b1834" },
  { "aes", "xts-plain64", 64,
    "b5d9d3c02d9890369d6e7af9f0066e49"
    "e23bc777887a2a64973efd5f19aba8fd" },
  { "aes", "xts-essiv:md5", 64,
    "db68665e501c373bf0155bbf801068aa"
    "03fd9437b10673fcaabac4598eb0118d" },
  { "aes", "xts-essiv:sha256", 64,
    "0ab2c11d82ea4cfce3fca678f7137842"
    "2786ddb83d44d48747d8192aac90a826" },
  { "aes", "xts-essiv:sm3", 64,
    "a027c6689276e664fa769641c67d0e3e"
    "d597a9f2c8c61be5bc5065f44eee8bc6" },
  { "aes", "cbc-plain", 32,
    "9f915df2a219a664870bd72f01d75dc5"
    "9206a5837c5a253cbedee24437509c91" },
  { "serpent", "ecb", 16,
    "b568474b7b8d60075dcf6a897985dd4f"
    "2bea420a823385d20b5e0630551ecd8b" },
  { "serpent", "cbc-plain64", 16,
    "bfa4849a86e806b83feede7d734826cd"
    "db5fb43c9e9ec0521213e17b9bb673b3" },
  { "serpent", "cbc-essiv:md5", 16,
    "b4d06ad125b1323a8cd5406d4e72ef44"
    "22124315d791a092f74f750e0ddc8770" },
  { "serpent", "cbc-essiv:sha256", 16,
    "82e948c76f3ab3cd08e34d176b66026d"
    "252afc5038a9b1b2ca0a8ed216fc2a6b" },
  { "serpent", "cbc-essiv:sm3", 16,
    "4254f8b6c9a31cb910afc731340878e7"
    "fe4d0d074c98341f519f6b245fad2e03" },
  { "serpent", "ctr-plain64", 16,
    "75613445c743a3ef3182b07db2ba3419"
    "42bea94fc80d5dfed65e053f7d4ff300" },
  { "serpent", "ctr-essiv:md5", 16,
    "1f1b19e20ebb83e8d9843c1082da2220"
    "3dacc1c24ce268a7284285c64e5b68f0" },
  { "serpent", "ctr-essiv:sha256", 16,
    "fb2a90d246de970f95c4e053a7e41586"
    "87e33986c9c4d4cfe7558f5bd64e87a2" },
  { "serpent", "ctr-essiv:sm3", 16,
    "8ad3aa8863083a9b303e744abe0c8a22"
    "5e6c670958fcca100d8023cb180ca87e" },
  { "serpent", "xts-plain64", 32,
    "4126d86a1b0b0b757fffe80419d4fa7a"
    "808b51f0eb38eb5f2de34ca7e003e256" },
  { "serpent", "xts-essiv:md5", 32,
    "f13feaf2c884a3887ae8531c4dcded54"
    "33dbb2c0d318aa133b69e34c3fdbbcc6" },
  { "serpent", "xts-essiv:sha256", 32,
    "cc55ecd14db61d06093277bd4d362bbf"
    "0736e068e6e7c88acd7081f417e1af1d" },
  { "serpent", "xts-essiv:sm3", 32,
    "4207932a8486a395c87904a79e74fe56"
    "5e9e100ee854ebab43b21c8b03d972c2" },
  { "serpent", "cbc-plain", 16,
    "544917eda968a800c8947d9ba20dd811"
    "24fd3cd5279165c58097abcdcc0a0834" },
  { "serpent", "ecb", 24,
    "aa9e1596b66ba2a8c4c98cde9212cecc"
    "e0f9c0dfcc22f8f812bad35703b7bb75" },
  { "serpent", "cbc-plain64", 24,
    "d47f7024a5839540bee24d029e704bc1"
    "8b7253602affdc1420c40c774837136f" },
  { "serpent", "cbc-essiv:md5", 24,
    "3e926c516ce4adfea4a8efd9c02481cc"
    "eb0aa4ed8ac66171a8d0cc61959519f4" },
  { "serpent", "cbc-essiv:sha256", 24,
    "7ebcb743134b9208133974191217894b"
    "260e6db070a5fe86bbe8cd6f7f4cac16" },
  { "serpent", "cbc-essiv:sm3", 24,
    "7794e6474b9ff8376da844c811615f8b"
    "ad67243ec5ca9cefbe9813a60a226baa" },
  { "serpent", "ctr-plain64", 24,
    "1b88545c4743ab0bfb39824e2e0eef50"
    "36547fbcb8ea84a6d5feffd7ebda261f" },
  { "serpent", "ctr-essiv:md5", 24,
    "f737ee157eb9afd184b7aa4e693e4aea"
    "7dd9082b42e097631060c3314caf4a5a" },
  { "serpent", "ctr-essiv:sha256", 24,
    "e580d1dc75aacd937a59d0e90133e485"
    "72a50723a5220fe9eb7c098198c9d66c" },
  { "serpent", "ctr-essiv:sm3", 24,
    "d348ccaec2f1c0f5ccc9f1919532332e"
    "47614f34a59c717a4da0017f50191074" },
  { "serpent", "xts-plain64", 48,
    "2459971167d9f9bc22eb22da96fadb3f"
    "225f01b454022f19faf314f62b91640d" },
  { "serpent", "xts-essiv:md5", 48,
    "6e0e8a605080e1e60be00c67eb597ff4"
    "794a695b5a5adaeedb5a6148492a3621" },
  { "serpent", "xts-essiv:sha256", 48,
    "d63ee43ee72e25a69ff6386e7ed2a50d"
    "11e7b28c1d72ecc20354b856fc7c4a1c" },
  { "serpent", "xts-essiv:sm3", 48,
    "2d9cb48e7e04fb1996d1931177e0846e"
    "2b7f8e83c03ad6c8dc45101b0db56def" },
  { "serpent", "cbc-plain", 24,
    "a239760f32497e23162428da738ccca2"
    "318958f1320e61dcc4ebf20ffa73f915" },
  { "serpent", "ecb", 32,
    "5282002ae31bbf88c3a069f27ec77aa1"
    "a2aef1e5fd602c34a552394855fbda05" },
  { "serpent", "cbc-plain64", 32,
    "14bcbf2ae9711f7a2768cbeabc68e6cf"
    "5af6ed6d99e7518ed2b865d6b7323abe" },
  { "serpent", "cbc-essiv:md5", 32,
    "11b01d2b85c177f266db0f46a3746ce1"
    "d06605281ca54577a1f7959e2dcadcec" },
  { "serpent", "cbc-essiv:sha256", 32,
    "748cd4429e012ca941ca7228adcf0dcc"
    "515b5dee9dcadaf375c8ec1bb6e658c8" },
  { "serpent", "cbc-essiv:sm3", 32,
    "72883de5cf20b07530dca73ed0546e2a"
    "be18ee01cb7fbc549e4a8dcfefb95828" },
  { "serpent", "ctr-plain64", 32,
    "86d5152792aa4a88f43ca14b12d59fee"
    "cdf8f9a96750d16ddb71722d0908cafe" },
  { "serpent", "ctr-essiv:md5", 32,
    "0734bf65d32a0038fabe9d711ddd6b75"
    "2a98f478f476f6aa368298f84ba58fb1" },
  { "serpent", "ctr-essiv:sha256", 32,
    "c0fe94a3d5e1c79ef8d8301e1d2955bc"
    "c14dd4ec7f75225d6e2c65de164b45f6" },
  { "serpent", "ctr-essiv:sm3", 32,
    "5d2a760f80da2c4793d9f40959b00d4e"
    "f7e17d49361b840eef21411b1640fd2d" },
  { "serpent", "xts-plain64", 64,
    "d86eda3ea073047dfd25ee25af3809e3"
    "ea96f87906bcff844dbccbc570b75e3c" },
  { "serpent", "xts-essiv:md5", 64,
    "5550c34c4c68f23af4718d6ecdaa78a9"
    "53b3ead21b8a1a47e3db7283745ed5e6" },
  { "serpent", "xts-essiv:sha256", 64,
    "5783006c131183b820ab06dfc75d0317"
    "c10f5666683f913c38e08a08052d25b0" },
  { "serpent", "xts-essiv:sm3", 64,
    "bd5724caa96f552e2ad605e964cce1a1"
    "236c0a08018594b4649abc37586678c9" },
  { "serpent", "cbc-plain", 32,
    "8f8bb6d5c4ffc4827f9176b62694a7ab"
    "25059415b760f98dcc97bfa0e116b934" },
  { "twofish", "ecb", 16,
    "aabbcdb962aa50269d2549b713161975"
    "dac14b753b72011c18f16c996f69eef2" },
  { "twofish", "cbc-plain64", 16,
    "3203b6a105754300a817982adb8424d5"
    "1976553fa47c6d4b176772c6411dade4" },
  { "twofish", "cbc-essiv:md5", 16,
    "df5930ea4d070ddf19f38ad112f9d98c"
    "42d75d55b05e986ff05a4178f8af030a" },
  { "twofish", "cbc-essiv:sha256", 16,
    "fead8f5ebc2efde560acbe3d7b2c3919"
    "06524bc97b8e39c455b46c8890a1b6c8" },
  { "twofish", "cbc-essiv:sm3", 16,
    "4628920efb050f09622a611edacc4333"
    "dc6092c06a3ef738d0990be1d93dc051" },
  { "twofish", "ctr-plain64", 16,
    "28c06bac210805d595506bd5887036f6"
    "0d203fc4e1f564d833f44db49d15eab9" },
  { "twofish", "ctr-essiv:md5", 16,
    "b9bf8029fe6df7bc0cadc00328337ef0"
    "6b2f4620e590f165126dedeb9152e446" },
  { "twofish", "ctr-essiv:sha256", 16,
    "744dcde8104a9687e0f40c1ad074addc"
    "2fe01d4f9229d8a125afa70608e81d11" },
  { "twofish", "ctr-essiv:sm3", 16,
    "16ee1db3f5dd6e054f8a42efd5289ca7"
    "254e1c257ef0f54c3d14496e4f577811" },
  { "twofish", "xts-plain64", 32,
    "71381cc00ba1f7186c29514778fab887"
    "de5b3356a10d02d40ac4521054c87412" },
  { "twofish", "xts-essiv:md5", 32,
    "d97bd14fb63ea086f2b2f208a0ed7458"
    "8843f099e67fa615d37c1421a17f4c69" },
  { "twofish", "xts-essiv:sha256", 32,
    "f2e36a825949d818802546c156ef7545"
    "be0fed436c2376ad2b2dc29d60d6a6a6" },
  { "twofish", "xts-essiv:sm3", 32,
    "aed537aa432375fa6fe0b7caf6dbb7ba"
    "85b9e56a4af88f5ec88dfe9986df8879" },
  { "twofish", "cbc-plain", 16,
    "2bdab86ab2286e5f60c22e2256eb90bf"
    "0bc36397a38bf8902b2567085d826753" },
  { "twofish", "ecb", 32,
    "3c0693be478860b917543dc972ed028b"
    "90bd990d2c4941f91d4d03e3f9de2bbf" },
  { "twofish", "cbc-plain64", 32,
    "a2263cf4b10e6816900cf06907891d16"
    "a7bb053498ed935231ac44a3941291ee" },
  { "twofish", "cbc-essiv:md5", 32,
    "0df9b856a8b726f4e5a28c2a2d805439"
    "de0fb7b91d74bc65b47fb63eb0d6eb92" },
  { "twofish", "cbc-essiv:sha256", 32,
    "ef203989c960847169fa60c41f905634"
    "85fc30e773c878f5a13b3035aedbbd94" },
  { "twofish", "cbc-essiv:sm3", 32,
    "7355da71cb01cc8e18978a59a0b4cb9b"
    "b24e2e9e832e9832986b24500c3898b2" },
  { "twofish", "ctr-plain64", 32,
    "128d362f7beac1fa92bd8f5efd6a7fa0"
    "ee0bf71219836c7f5aaf89eebbe55b70" },
  { "twofish", "ctr-essiv:md5", 32,
    "b802abe4bef8ace93c0347c8f2cdbbab"
    "3da09bf714811d8ffb7641d119154d8f" },
  { "twofish", "ctr-essiv:sha256", 32,
    "1a2509e28050b1838ca351f3821ddd68"
    "4878c3a70e9a01b40565629344825ea0" },
  { "twofish", "ctr-essiv:sm3", 32,
    "41f8bcd7796d368525a7be5533b9fc74"
    "80aaeeb648a36dc40c63565b5a169067" },
  { "twofish", "xts-plain64", 64,
    "b7c188be5bd852a0fdbede3c376e51da"
    "11d1f13d936461fdd65a75bdec4f8e45" },
  { "twofish", "xts-essiv:md5", 64,
    "2bcce9caa09f43df399845af0f9e46e4"
    "562af1e2b474debf3cfac0e65b3634d2" },
  { "twofish", "xts-essiv:sha256", 64,
    "bf21312557ba4da96380f8a07eb45aec"
    "c5ef72d1870925718ab6e875776c091e" },
  { "twofish", "xts-essiv:sm3", 64,
    "3c4d9692039b9314e1b1161e3544adbc"
    "6c28dd9fb82e3988e205591e17ec08c1" },
  { "twofish", "cbc-plain", 32,
    "f5667c05a50079f38c6ee9bad143769c"
    "00333f4df1e1e08a671917bdc913cf1d" },
  { "cast5", "ecb", 16,
    "8ca76f93940ffb59dc7de9a8a5640c1d"
    "a74c99459dfcf37685f3908e220d012f" },
  { "cast5", "cbc-plain64", 16,
    "7aaa4760956c492b3fb8bcd22c07c686"
    "f2faaf457a130555cf4ba780648df73d" },
  { "cast5", "cbc-essiv:md5", 16,
    "ce674689d3b6d3757f418d357ca4a4b6"
    "191d2b87e34a16c4abb5fc4b206acfb5" },
  { "cast5", "ctr-plain64", 16,
    "458388b8d5f3f0fcf604cce02dfe5534"
    "c3f432dcc29f61a7ba96f9618b86ec4e" },
  { "cast5", "ctr-essiv:md5", 16,
    "4aa10d69d1056fea383f5616bd15be8b"
    "75de046d4105f370ba7c956e1fca3aa2" },
  { "cast5", "cbc-plain", 16,
    "1ed8299ba585f8eede58d3494ed10577"
    "2998ad680ffd9b214ea460d6cc72cfb3" },
};

#define DERIVED_BYTES 150
#define DERIVED_ITERATIONS 3

/* The SHA-256 of what PBKDF2 makes of secret_len times 's' and a
 * salt of 32 bytes.
 */
static const struct {
  const char *hash;
  size_t secret_len;
  const char *sha256;
} derived[] = {
  { "md5", 0,
    "ef11a8029bd54c20d409c57802a268a4"
    "91cb3edafd20c82724c76e18b654ec62" },
  { "md5", 1,
    "816573a83e99a1938b7131558fc01a86"
    "58c1e7b63a07e3a626644f0dad15abba" },
  { "md5", 63,
    "d2b20ee9669fe503a44c3104bfb3c1f3"
    "77b1f78f64e9cc0c040058c35e2b93f7" },
  { "md5", 64,
    "516695c97bb604060e73c215a073f2f5"
    "c2c3c5482cc9e7f1afe976b472ac60a9" },
  { "md5", 65,
    "37e88061e36e78409129b8d301be442f"
    "94162c16ac326bd7a564360165d6e95a" },
  { "md5", 200,
    "22d9d66675fcc3bcf344b2855b3f58a7"
    "d6239266f29801f4ef40391fec41ba72" },
  { "sha1", 0,
    "cae30d711ca8ba4b634fd4edeb99f2e5"
    "fad1e41f5145718e3f390388da8531d8" },
  { "sha1", 1,
    "9ad4314b673987b5984a509f4d1f6460"
    "23cf34fdff96940adc9d471866caae3e" },
  { "sha1", 63,
    "7706c51016ae6c578b7b89e8d5460b11"
    "b0c2b72880675b14fe706b0b3dadfe48" },
  { "sha1", 64,
    "78e0d2034d1cd773e0f777644eed585e"
    "d64663680554ec831c236ee50e3aab87" },
  { "sha1", 65,
    "79b8b23690c645e9ac46e9328e5d632d"
    "560bbdb7a90631fc97bc3cd50400fa6b" },
  { "sha1", 200,
    "4d32b904cb42d0d742e6fe6228776f02"
    "76820b9a14b3bbc9e91e2af4df098b91" },
  { "ripemd160", 0,
    "633e933334aba8994661ec023a018589"
    "b97bd3d3f1703ed850da6aaefe27e145" },
  { "ripemd160", 1,
    "f2e692a19cb1c1dedb5309ad4857b8c6"
    "adcf1eee7a97583f0ddbed6cf49a7816" },
  { "ripemd160", 63,
    "2127391e78922cc3083a85be6cc24d53"
    "24e42da60707051b7a8dfdecf1a1698d" },
  { "ripemd160", 64,
    "7e58a6f3c71322e4441b933053b5f4e5"
    "e7c555e82c8bf17382456879cecdcc12" },
  { "ripemd160", 65,
    "fb669fcbabda96b35ea87778f240e347"
    "d57fe151ab8595419e771ab98e013b90" },
  { "ripemd160", 200,
    "1c7f669639bcc0f098b7a4967f82348c"
    "f2e5b40c370d4acb5b7a7e3e48bc6d8a" },
  { "sha256", 0,
    "92f91cbbd87c92c2ecf4994860b8daf1"
    "39bdca769357b06b5ed68d02a85f10bb" },
  { "sha256", 1,
    "3c693df3c665ae5d892ccafa8d177d0f"
    "66756c375f7b08a00b78feb37c9c74e5" },
  { "sha256", 63,
    "9b53a744ac7ea82f5e61b63b2adfc1c3"
    "de48aa228bdc0ccc3e686ec984930b5b" },
  { "sha256", 64,
    "c87549dba5d6312b680d55d804f4825b"
    "8270499d63334fdaded816bfda7ef95c" },
  { "sha256", 65,
    "68a4d7f732e81b8b2300d07e7b7d686f"
    "b6b08941338d1697197b7d72b135fb2e" },
  { "sha256", 200,
    "10d28a24a45174487316ce30d968cebd"
    "cb613c04343d0d43dcfbdda5a3b7d33b" },
  { "sha384", 0,
    "984295c4786ea30c51fdfb2554c37371"
    "58066becfb79ac6a8bc9fc51c7ae97f4" },
  { "sha384", 1,
    "0911ef890dc0d81976b33bb5710a3145"
    "4dee67d85171701656a573b8b459e29c" },
  { "sha384", 63,
    "7f26b7801d6856a8672e582b7231d132"
    "ab0687a4f36be98b24818ccc5462c8eb" },
  { "sha384", 64,
    "2bb1162f32306e75b5a059f3ecb86de6"
    "e974fd2fcb6bcf66bdcfe6adeaf8ffd7" },
  { "sha384", 65,
    "418c32620f70e43420233b96d9b27a4d"
    "6b0e811ee8693e3f1842a0e81e0052fc" },
  { "sha384", 200,
    "f8ca1901d17acb4c1ff27b2b96f76b68"
    "b58dff230767c719e82e7d6d72b6bd58" },
  { "sha512", 0,
    "f6d8520c1ffec2667e5adce1a86069ed"
    "59c1b3dddca843307270dd936ffdeef1" },
  { "sha512", 1,
    "43a4ec426f3e96b865dbc268878cd42d"
    "6721089e5f5110a0b8acb05bd4dcb678" },
  { "sha512", 63,
    "31f9316df1235151c42eb9541e1d1a0b"
    "ca17e12b51625fa207cd9e89ccfc981a" },
  { "sha512", 64,
    "4ac3b4c8e0f366df219b4d1c7bc345e2"
    "0d994e77be2ea86eb990c8add97c87ca" },
  { "sha512", 65,
    "bff95989ee5e6f1f8474fe4dddad8936"
    "ae7a098bd85c9ea0372f786f79498ee6" },
  { "sha512", 200,
    "a626a781b839904b9d87665a02ad952a"
    "feecd2c23a0c59137b1728640286f76c" },
  { "sha224", 0,
    "a57332f0b4b5deafa1c80758fbacd2b6"
    "97cf5cf9b25f28a0e6f3b0ebfc9c0c73" },
  { "sha224", 1,
    "5620085860431ed921522ae51e7a3e5b"
    "314636063d99156368c10d4086930eec" },
  { "sha224", 63,
    "e511f6519c197f1cbea97d35a8ab0bf4"
    "2f9ef6fc66f5443cec25e477c0b66cbc" },
  { "sha224", 64,
    "75352c3dcc127fcd76894731bf0651f4"
    "1f2ca958d4fe4a90c2c787f148cbd661" },
  { "sha224", 65,
    "682b4336f2360e59336e4a6c433c5b40"
    "47f921d26e09515914e0407871e6da1e" },
  { "sha224", 200,
    "32530a5058715287aaa272ace02b3280"
    "c73630232dde043719e08d8fc143642e" },
  { "sm3", 0,
    "93ad8be0243f14a24b8650a5a2afaf23"
    "920bc054de27a8ab6f0195aa56c3042b" },
  { "sm3", 1,
    "6f1ae3974db35c7da798a2a6d1c7a615"
    "5af474c03975f3e97f52bb1ef36fd06f" },
  { "sm3", 63,
    "ccc2d43b38e5c34fb72fe7284c149fad"
    "38d32a0b3311fbc8588316e727261413" },
  { "sm3", 64,
    "f52f1854916234bce909f6be087422b5"
    "2986aa9030203de78aedfb462658a20b" },
  { "sm3", 65,
    "80a3452339f7c920d5536b8850bbc5af"
    "2ae82a0fa980cda8eb83e2669474df4a" },
  { "sm3", 200,
    "554ff60138adecd7067c13a288dcc7e1"
    "046b7c44a19cebde5dcbce5c548d9778" },
};

#endif /* CIPHER_VECTORS_H */
