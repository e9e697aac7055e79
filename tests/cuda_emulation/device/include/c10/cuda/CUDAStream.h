#pragma once
#include "device/torch_cuda.h"
