# The GPU that tests use where there is none: the kernels of src/device/cuda/kernels compiled as C++, and the emulator
# under them. Only tests need a C++ compiler.
enable_language(CXX)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)

file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/device/cuda/kernels/*.cu)
file(GLOB emulation CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/device/cuda/emulation/*.cpp)
set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")
add_library(cuda_emulation OBJECT ${kernels} ${emulation})
set(emulations cuda_emulation)

# The same once more, looking for races in shared memory: the compiler's calls for ThreadSanitizer go to the emulator.
if(NOT ACE_SANITIZE)
  add_library(cuda_races_kernels OBJECT ${kernels})
  add_library(cuda_races OBJECT ${emulation})
  target_compile_options(cuda_races_kernels PRIVATE -fsanitize=thread)
  target_compile_definitions(cuda_races PRIVATE EMULATOR_RACES)
  list(APPEND emulations cuda_races_kernels cuda_races)
endif()
foreach(library ${emulations})
  target_include_directories(${library} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${library} PUBLIC Threads::Threads m)
  # Kernels read memory as types of other sizes, as CUDA allows, and have hints for nvcc only.
  target_compile_options(${library} PRIVATE -fno-strict-aliasing -Wno-unknown-pragmas)
endforeach()

# Without an instruction for it, every fused multiply-add is a call; the result is the same.
include(CheckCSourceRuns)
check_c_source_runs("int main(void) { return !(__builtin_cpu_supports(\"avx2\") && __builtin_cpu_supports(\"fma\")); }"
                    ACE_RUNS_FMA)
if(ACE_RUNS_FMA)
  foreach(library ${emulations})
    target_compile_options(${library} PRIVATE -mavx2 -mfma)
  endforeach()
endif()
