# What needs a GPU: kernels, products and their measuring. Off, with everything else built, where
# CUDA is not found; a build for another GPU than Hopper sets CMAKE_CUDA_ARCHITECTURES.
option(STEPLOOM_CUDA "Build what measures and runs on GPUs, if CUDA is found" ON)

set(STEPLOOM_HAS_CUDA OFF)
if(STEPLOOM_CUDA AND NOT STEPLOOM_SANITIZE)  # nvcc knows no sanitizers
  find_package(CUDAToolkit 12.8 QUIET)
  if(CUDAToolkit_FOUND AND TARGET CUDA::cudart_static AND TARGET CUDA::cublas AND TARGET CUDA::cublasLt)
    include(CheckLanguage)
    if(NOT CMAKE_CUDA_COMPILER AND CUDAToolkit_NVCC_EXECUTABLE)
      set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      set(STEPLOOM_HAS_CUDA ON)
    endif()
  endif()
endif()

if(NOT STEPLOOM_HAS_CUDA)
  message(STATUS "CUDA: off (no CUDA 12.8 or newer with nvcc and cuBLAS, STEPLOOM_CUDA is off, or sanitizers are on); "
                 "steploom-measure is not built, all else is")
  return()
endif()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90-real)
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")  # CMake 3.25 does not know it
endif()
set(CMAKE_CUDA_FLAGS_RELEASE "-O2 -DNDEBUG")
message(STATUS "CUDA: on, ${CUDAToolkit_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")

file(GLOB device_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/profiler/kernels_*.cu)
add_library(steploom_kernels STATIC ${device_sources} profiler/attention_layout.cpp
  profiler/attention_reference.cu profiler/buffer.cu profiler/products.cu)
target_link_libraries(steploom_kernels PUBLIC steploom_profiler
  CUDA::cudart_static CUDA::cublas CUDA::cublasLt)

# Attention comes from cuDNN 9.14 or newer, which has no CMake package; without it attention is
# refused when it is asked for.
find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
if(CUDNN_INCLUDE_DIR AND CUDNN_LIBRARY)
  message(STATUS "cuDNN: on, ${CUDNN_LIBRARY}")
  target_sources(steploom_kernels PRIVATE profiler/attention.cu profiler/cudnn_graph.cu)
  target_include_directories(steploom_kernels SYSTEM PRIVATE ${CUDNN_INCLUDE_DIR})
  target_link_libraries(steploom_kernels PUBLIC ${CUDNN_LIBRARY})
else()
  message(STATUS "cuDNN: off; attention can be neither measured nor run, all else can")
  target_sources(steploom_kernels PRIVATE profiler/attention_absent.cpp)
endif()
target_compile_options(steploom_kernels PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wconversion>)

file(GLOB trial_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/profiler/trial*.cpp)
add_library(steploom_measure STATIC ${trial_sources} profiler/measure.cu
  profiler/measure_launches.cu)
target_link_libraries(steploom_measure PUBLIC steploom_kernels)
target_compile_options(steploom_measure PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wconversion>)

add_executable(steploom-measure profiler/measure_device.cpp)
target_link_libraries(steploom-measure PRIVATE steploom_measure CLI11::CLI11)
