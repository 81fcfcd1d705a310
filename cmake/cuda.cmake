# The plug-in for NVIDIA GPUs, libacestep-cuda.so: built where the CUDA toolkit's compiler is, loaded at run time where a
# driver is. Nothing else of the build knows CUDA. nvcc is called directly, because CMake's own support for the language
# has to know a toolkit before it accepts it, and the toolkits are newer than the CMakes of the distributions.

set(ACE_CUDA AUTO CACHE STRING "The plug-in for NVIDIA GPUs: AUTO (where there is nvcc), ON or OFF")
set_property(CACHE ACE_CUDA PROPERTY STRINGS AUTO ON OFF)
set(ACE_CUDA_ARCHITECTURES "" CACHE STRING "Compute capabilities to compile for, such as 89 or 86;120; empty: all")

if(ACE_CUDA STREQUAL "OFF")
  message(STATUS "NVIDIA GPUs: plug-in not built (ACE_CUDA=OFF)")
  return()
endif()
find_program(ACE_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(NOT ACE_NVCC)
  if(ACE_CUDA STREQUAL "AUTO")
    message(STATUS "NVIDIA GPUs: plug-in not built, there is no nvcc (install the CUDA toolkit to have it)")
    return()
  endif()
  message(FATAL_ERROR "ACE_CUDA=ON needs nvcc, NVIDIA's compiler: install the CUDA toolkit 12 or newer "
                      "(https://developer.nvidia.com/cuda-downloads, or the package nvidia-cuda-toolkit), add its bin "
                      "folder to PATH or set CUDA_HOME, and run cmake again in an empty build folder")
endif()

# Machine code for every generation that this toolkit knows (minor versions run the code of the one below), and PTX of
# the newest, which the driver translates for GPUs that come later.
execute_process(COMMAND ${ACE_NVCC} --list-gpu-arch OUTPUT_VARIABLE known RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "'${ACE_NVCC} --list-gpu-arch' fails: the CUDA toolkit is damaged, or older than version 11.5")
endif()
string(REGEX MATCHALL "[0-9]+" known "${known}")
set(architectures ${ACE_CUDA_ARCHITECTURES})
if(NOT architectures)
  foreach(architecture 75 80 86 89 90 100 120)
    if(architecture IN_LIST known)
      list(APPEND architectures ${architecture})
    endif()
  endforeach()
endif()
if(NOT architectures)
  message(FATAL_ERROR "'${ACE_NVCC}' knows none of the GPUs that this program runs on (compute capability 7.5 and newer)")
endif()
set(targets)
foreach(architecture ${architectures})
  list(APPEND targets -gencode arch=compute_${architecture},code=sm_${architecture})
endforeach()
list(GET architectures -1 newest)
list(APPEND targets -gencode arch=compute_${newest},code=compute_${newest})
list(JOIN architectures " " shown)
message(STATUS "NVIDIA GPUs: plug-in built with ${ACE_NVCC} for compute capabilities ${shown}")

# -fmad=false: kernels ask for FMA themselves, as everywhere in this program.
set(flags -std=c++17 -O3 -fmad=false -I${PROJECT_SOURCE_DIR}/src -I${PROJECT_SOURCE_DIR}/include
    -diag-suppress 128,177 # what some instances of a template, and old GPUs, have no use for
    -Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off,-Wall,-Wextra ${targets} -Xfatbin=-compress-all --threads 2)
if(ACE_WERROR)
  list(APPEND flags -Werror all-warnings -Xcompiler=-Werror)
endif()

file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/device/cuda/*.cu
     ${PROJECT_SOURCE_DIR}/src/device/cuda/kernels/*.cu)
set(objects)
foreach(source ${sources})
  get_filename_component(name ${source} NAME_WE)
  set(object ${PROJECT_BINARY_DIR}/cuda/${name}.o)
  add_custom_command(OUTPUT ${object}
                     COMMAND ${ACE_NVCC} ${flags} -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
                     DEPENDS ${source} DEPFILE ${object}.d COMMENT "Compiling ${name}.cu for NVIDIA GPUs" VERBATIM)
  list(APPEND objects ${object})
endforeach()
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/cuda)

# The runtime is linked statically; what is shown is one function.
set(plugin ${PROJECT_BINARY_DIR}/libacestep-cuda.so)
set(exports ${PROJECT_SOURCE_DIR}/cmake/cuda-exports.map)
add_custom_command(OUTPUT ${plugin}
                   COMMAND ${ACE_NVCC} -shared -cudart static -o ${plugin} ${objects} -arch=sm_${newest}
                           -Xlinker --version-script=${exports} -Xlinker --no-undefined -Xlinker -z,now
                           -Xlinker --as-needed -Xcompiler -static-libgcc,-static-libstdc++
                   DEPENDS ${objects} ${exports} COMMENT "Linking libacestep-cuda.so" VERBATIM)
add_custom_target(acestep_cuda ALL DEPENDS ${plugin})
install(FILES ${plugin} DESTINATION ${CMAKE_INSTALL_LIBDIR}/acestep)
