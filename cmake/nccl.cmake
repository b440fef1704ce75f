# Measuring collectives and interference: needs CUDA with CUPTI and cuBLAS, and NCCL.
option(STEPLOOM_CUDA "Build what measures and runs on GPUs, if CUDA is found" ON)

set(STEPLOOM_HAS_NCCL OFF)
if(STEPLOOM_CUDA)
  find_package(CUDAToolkit 12.8 QUIET)
  if(CUDAToolkit_FOUND AND TARGET CUDA::cublas AND TARGET CUDA::cupti)
    # NCCL has no CMake package.
    find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
    include(CheckLanguage)
    if(NOT CMAKE_CUDA_COMPILER AND CUDAToolkit_NVCC_EXECUTABLE)
      set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER AND NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
      set(STEPLOOM_HAS_NCCL ON)
    endif()
  endif()
endif()

if(NOT STEPLOOM_HAS_NCCL)
  message(STATUS "NCCL: off (no CUDA 12.8 or newer with nvcc, cuBLAS and CUPTI, no NCCL, or "
                 "STEPLOOM_CUDA is off); steploom-measure-collectives is not built, all else is")
  return()
endif()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90-real)
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")  # CMake 3.25 does not know it
endif()
message(STATUS "NCCL: on, ${NCCL_LIBRARY}")

add_executable(steploom-measure-collectives
  profiler/measure_collectives.cpp profiler/measure_sweep.cpp profiler/measure_interference.cpp
  profiler/measure_admission.cpp profiler/measure_check.cpp profiler/stamped_loop.cpp
  profiler/kernel_trace.cpp profiler/collectives.cu profiler/side_kernels.cu)
target_include_directories(steploom-measure-collectives SYSTEM PRIVATE
  ${NCCL_INCLUDE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
target_compile_options(steploom-measure-collectives PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wconversion>)
target_link_libraries(steploom-measure-collectives PRIVATE steploom_profiler ${NCCL_LIBRARY}
  CUDA::cudart CUDA::cublas CUDA::cupti Threads::Threads)
