# Measuring collectives and interference: needs what cuda.cmake found, and CUPTI and NCCL.
set(STEPLOOM_HAS_NCCL OFF)
if(STEPLOOM_HAS_CUDA AND TARGET CUDA::cupti)
  # NCCL has no CMake package.
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    set(STEPLOOM_HAS_NCCL ON)
  endif()
endif()

if(NOT STEPLOOM_HAS_NCCL)
  message(STATUS "NCCL: off (CUDA is off, or CUPTI or NCCL is missing); "
                 "steploom profile cannot measure collectives, all else is built")
  return()
endif()
message(STATUS "NCCL: on, ${NCCL_LIBRARY}")

# What ran when, and return codes: for measuring and for running.
add_library(steploom_trace STATIC profiler/kernel_trace.cpp profiler/measure_check.cpp
  profiler/measured_on.cpp)
target_include_directories(steploom_trace SYSTEM PRIVATE
  ${NCCL_INCLUDE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(steploom_trace PUBLIC steploom_profiler
  PRIVATE ${NCCL_LIBRARY} CUDA::cudart_static CUDA::cublas CUDA::cupti)

add_library(steploom_collectives STATIC
  profiler/measure_run.cpp profiler/measure_sweep.cpp profiler/measure_interference.cpp
  profiler/measure_admission.cpp profiler/measure_copies.cpp profiler/side_attention.cpp
  profiler/stamped_loop.cpp profiler/collectives.cu profiler/side_copies.cu profiler/side_kernels.cu)
target_include_directories(steploom_collectives SYSTEM PRIVATE
  ${NCCL_INCLUDE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
target_compile_options(steploom_collectives PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wconversion>)
target_link_libraries(steploom_collectives PUBLIC steploom_trace steploom_measure
  PRIVATE ${NCCL_LIBRARY} CUDA::cudart_static CUDA::cublas CUDA::cupti)
