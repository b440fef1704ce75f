# Running plans on GPUs: needs what cuda.cmake and nccl.cmake found. Without it a plan still runs on
# the reference kernels.
if(NOT STEPLOOM_HAS_NCCL)
  add_library(steploom_gpus STATIC profiler/run_gpus_absent.cpp profiler/verify_step.cpp)
  target_link_libraries(steploom_gpus PUBLIC steploom_executor)
  return()
endif()

add_library(steploom_gpus STATIC
  profiler/communicators.cpp profiler/cuda_kernels.cpp profiler/cuda_launches.cpp
  profiler/run_gpus.cpp profiler/run_step.cpp profiler/stream_plans.cpp profiler/verify_gpus.cpp
  profiler/verify_step.cpp)
target_include_directories(steploom_gpus SYSTEM PRIVATE
  ${NCCL_INCLUDE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(steploom_gpus PUBLIC steploom_executor steploom_kernels steploom_trace
  PRIVATE ${NCCL_LIBRARY})

# Measuring what lies between kernels: gaps, host time of the executor's calls, communicators.
add_library(steploom_gaps STATIC profiler/measure_gaps.cpp profiler/measure_communicators.cpp)
target_include_directories(steploom_gaps SYSTEM PRIVATE
  ${NCCL_INCLUDE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(steploom_gaps PUBLIC steploom_gpus steploom_collectives
  PRIVATE ${NCCL_LIBRARY})
