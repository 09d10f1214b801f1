/* Products of matrices, fully connected layers, and convolutions as products. */

#define ELEMENT DATA_TYPE

#include "product.h"
