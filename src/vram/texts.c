#include "vram/texts.h"

#include <stdarg.h>
#include <string.h>
#include <strings.h>

static const char *const table[TEXT_COUNT][TEXTS_LANGUAGES] = {
    [TEXT_COMMA] = {", ", ", ", "、", "，"},
    [TEXT_DEVICES] = {"Devices", "장치", "デバイス", "设备"},
    [TEXT_MEMORY_FREE] = {"{0} GB, {1} GB free", "{0} GB, 여유 {1} GB", "{0} GB、空き {1} GB", "{0} GB，空闲 {1} GB"},
    [TEXT_MEMORY_TOTAL] = {"{0} GB, free memory unknown", "{0} GB, 여유 메모리 알 수 없음", "{0} GB、空きメモリ不明",
                           "{0} GB，空闲显存未知"},
    [TEXT_MEMORY_UNKNOWN] = {"memory unknown", "메모리 알 수 없음", "メモリ容量不明", "显存未知"},
    [TEXT_MEMORY_SHARED] = {"uses the computer's memory", "컴퓨터 메모리를 함께 사용", "本体メモリを共有",
                            "与电脑共用内存"},
    [TEXT_MEMORY_HOST] = {"{0} GB, {1} GB available", "{0} GB, 사용 가능 {1} GB", "{0} GB、使用可能 {1} GB",
                          "{0} GB，可用 {1} GB"},
    [TEXT_LIMITED] = {"limited by a cgroup", "cgroup으로 제한됨", "cgroup による制限あり", "受 cgroup 限制"},
    [TEXT_THREADS] = {"threads: {0}", "스레드 {0}개", "スレッド数 {0}", "{0} 个线程"},
    [TEXT_CAPABILITY] = {"compute capability {0}", "컴퓨트 능력 {0}", "Compute Capability {0}", "计算能力 {0}"},
    [TEXT_DRIVER] = {"driver {0}", "드라이버 {0}", "ドライバー {0}", "驱动 {0}"},
    [TEXT_USED_BY] = {"used by {0}", "사용 중인 프로그램: {0}", "使用中のプログラム: {0}", "正在使用的程序：{0}"},
    [TEXT_USED_MORE] = {"and others", "외 다수", "ほか", "等"},
    [TEXT_UNUSABLE] = {"cannot be used: {0}", "사용할 수 없음: {0}", "使用できません: {0}", "无法使用：{0}"},
    [TEXT_TRUNCATED] = {"There are more devices than are listed here.", "여기에 표시되지 않은 장치가 더 있습니다.",
                        "ここに表示されていないデバイスがほかにもあります。", "还有未在此列出的设备。"},
    [TEXT_DRIVER_SILENT] = {"NVIDIA's driver library is installed but shows no card: {0}",
                            "NVIDIA 드라이버 라이브러리는 설치되어 있지만 그래픽 카드가 보이지 않습니다: {0}",
                            "NVIDIA ドライバーのライブラリはありますが、GPU が見つかりません: {0}",
                            "已安装 NVIDIA 驱动库，但没有找到显卡：{0}"},

    /* ---- why a card cannot be used, in the order of detect_problem ---- */
    [TEXT_PROBLEM + 0] = {"nothing is wrong", "문제 없음", "問題ありません", "没有问题"},
    [TEXT_PROBLEM +
        1] = {"NVIDIA's driver library is missing ({0}). Install NVIDIA's driver; in a container, start it "
              "with access to the card (docker run --gpus all)",
              "NVIDIA 드라이버 라이브러리가 없습니다({0}). NVIDIA 드라이버를 설치하세요. 컨테이너라면 "
              "그래픽 카드를 쓸 수 있게 시작하세요(docker run --gpus all)",
              "NVIDIA ドライバーのライブラリがありません({0})。NVIDIA ドライバーをインストールしてください。"
              "コンテナの場合は GPU を使えるように起動してください(docker run --gpus all)",
              "缺少 NVIDIA 驱动库（{0}）。请安装 NVIDIA 驱动；如果在容器中，请以可访问显卡的方式启动"
              "（docker run --gpus all）"},
    [TEXT_PROBLEM + 2] = {"NVIDIA's driver library lacks a function ({0}): it is too old or damaged. Install the "
                          "current driver",
                          "NVIDIA 드라이버 라이브러리에 필요한 함수가 없습니다({0}). 너무 오래되었거나 손상되었습니다. "
                          "최신 드라이버를 설치하세요",
                          "NVIDIA ドライバーのライブラリに必要な関数がありません({0})。古すぎるか壊れています。"
                          "最新のドライバーをインストールしてください",
                          "NVIDIA 驱动库缺少所需的函数（{0}），可能版本过旧或已损坏。请安装最新驱动"},
    [TEXT_PROBLEM +
        3] = {"NVIDIA's driver does not start: {0}. Run nvidia-smi to see whether other programs can use "
              "the card, and reinstall the driver if not",
              "NVIDIA 드라이버가 시작되지 않습니다: {0}. nvidia-smi로 다른 프로그램은 쓸 수 있는지 "
              "확인하고, 안 되면 드라이버를 다시 설치하세요",
              "NVIDIA ドライバーを開始できません: {0}。nvidia-smi でほかのプログラムから使えるか確認し、"
              "使えなければドライバーを再インストールしてください",
              "NVIDIA 驱动无法启动：{0}。请运行 nvidia-smi 查看其他程序能否使用显卡，如果不能，请重新安装驱动"},
    [TEXT_PROBLEM + 4] = {"the kernel module and the driver library have different versions ({0}): the driver was "
                          "updated while it ran. Restart the computer",
                          "커널 모듈과 드라이버 라이브러리의 버전이 다릅니다({0}). 실행 중에 드라이버가 "
                          "업데이트되었습니다. 컴퓨터를 다시 시작하세요",
                          "カーネルモジュールとドライバーのライブラリのバージョンが違います({0})。動作中にドライバーが"
                          "更新されています。コンピューターを再起動してください",
                          "内核模块与驱动库版本不一致（{0}），说明驱动在运行时被更新过。请重启电脑"},
    [TEXT_PROBLEM +
        5] = {"this user may not open it ({0}). Add the user to the group that owns the device file "
              "(often video or render) and log in again",
              "이 사용자에게 권한이 없습니다({0}). 장치 파일을 소유한 그룹(보통 video 또는 render)에 "
              "사용자를 추가하고 다시 로그인하세요",
              "このユーザーには権限がありません({0})。デバイスファイルを所有するグループ(多くは video か "
              "render)にユーザーを追加し、ログインし直してください",
              "当前用户没有权限（{0}）。请将用户加入设备文件所属的组（通常是 video 或 render），然后重新登录"},
    [TEXT_PROBLEM + 6] = {"the device file {0} is missing. Load the driver (nvidia-modprobe or nvidia-smi as "
                          "administrator); in a container, start it with access to the card (docker run --gpus all)",
                          "장치 파일 {0}이(가) 없습니다. 드라이버를 불러오세요(관리자 권한으로 nvidia-modprobe 또는 "
                          "nvidia-smi 실행). 컨테이너라면 그래픽 카드를 쓸 수 있게 시작하세요(docker run --gpus all)",
                          "デバイスファイル {0} がありません。ドライバーを読み込んでください(管理者権限で "
                          "nvidia-modprobe または nvidia-smi を実行)。コンテナの場合は GPU を使えるように起動して"
                          "ください(docker run --gpus all)",
                          "缺少设备文件 {0}。请加载驱动（以管理员身份运行 nvidia-modprobe 或 nvidia-smi）；"
                          "如果在容器中，请以可访问显卡的方式启动（docker run --gpus all）"},
    [TEXT_PROBLEM + 7] = {"no driver is loaded for it. Install NVIDIA's driver, or load it (modprobe nvidia); with "
                          "Secure Boot its module must be signed",
                          "이 카드의 드라이버가 로드되지 않았습니다. NVIDIA 드라이버를 설치하거나 불러오세요(modprobe "
                          "nvidia). Secure Boot를 쓴다면 모듈에 서명이 필요합니다",
                          "ドライバーが読み込まれていません。NVIDIA ドライバーをインストールするか読み込んでください"
                          "(modprobe nvidia)。セキュアブートではモジュールに署名が必要です",
                          "没有为它加载驱动。请安装 NVIDIA 驱动，或加载它（modprobe nvidia）；启用安全启动时，"
                          "驱动模块必须经过签名"},
    [TEXT_PROBLEM +
        8] = {"the driver {0} holds it, not NVIDIA's. Install NVIDIA's driver (nouveau cannot compute; "
              "vfio-pci means that the card was given to a virtual machine)",
              "NVIDIA 드라이버가 아닌 {0} 드라이버가 사용 중입니다. NVIDIA 드라이버를 설치하세요(nouveau로는 "
              "연산할 수 없고, vfio-pci는 카드가 가상 머신에 할당되었다는 뜻입니다)",
              "NVIDIA のものではないドライバー {0} が使用中です。NVIDIA ドライバーをインストールしてください"
              "(nouveau では計算できません。vfio-pci は GPU が仮想マシンに割り当て済みという意味です)",
              "它正由驱动 {0} 占用，而不是 NVIDIA 驱动。请安装 NVIDIA 驱动（nouveau 无法用于计算；"
              "vfio-pci 表示显卡已分配给虚拟机）"},
    [TEXT_PROBLEM +
        9] = {"it is plugged in, but NVIDIA's driver does not show it. Run nvidia-smi; the card may be "
              "too old for the installed driver, or kept from this container",
              "카드는 꽂혀 있지만 NVIDIA 드라이버에 보이지 않습니다. nvidia-smi를 실행해 보세요. 설치된 "
              "드라이버가 지원하지 않는 오래된 카드이거나, 이 컨테이너에 허용되지 않았을 수 있습니다",
              "装着されていますが、NVIDIA ドライバーからは見えません。nvidia-smi を実行してください。"
              "インストール済みのドライバーには古すぎる GPU か、このコンテナに許可されていない可能性があります",
              "显卡已插入，但 NVIDIA 驱动没有列出它。请运行 nvidia-smi；可能是显卡对当前驱动来说过旧，"
              "或者此容器无权使用它"},
    [TEXT_PROBLEM + 10] = {"it does not answer: {0}. Restart the computer; check power and cooling if it happens again",
                           "응답이 없습니다: {0}. 컴퓨터를 다시 시작하세요. 반복되면 전원과 냉각을 확인하세요",
                           "応答がありません: {0}。コンピューターを再起動してください。繰り返す場合は電源と冷却を"
                           "確認してください",
                           "没有响应：{0}。请重启电脑；如果再次发生，请检查供电和散热"},
    [TEXT_PROBLEM + 11] = {"the driver's figures cannot be true ({0}). Reinstall the driver",
                           "드라이버가 알려 준 값이 올바르지 않습니다({0}). 드라이버를 다시 설치하세요",
                           "ドライバーの示す値がありえないものです({0})。ドライバーを再インストールしてください",
                           "驱动报告的数值不可能正确（{0}）。请重新安装驱动"},
    [TEXT_PROBLEM + 12] = {"it is split into MIG instances, which this program cannot use yet",
                           "MIG 인스턴스로 나뉘어 있으며, 이 프로그램은 아직 이를 사용할 수 없습니다",
                           "MIG インスタンスに分割されており、このプログラムではまだ使用できません",
                           "它已被划分为 MIG 实例，本程序目前还不能使用"},
    [TEXT_PROBLEM +
        13] = {"CUDA_VISIBLE_DEVICES={0} leaves it out. Change or unset that variable to use it",
               "CUDA_VISIBLE_DEVICES={0} 때문에 제외되었습니다. 사용하려면 이 변수를 바꾸거나 해제하세요",
               "CUDA_VISIBLE_DEVICES={0} により除外されています。使うにはこの変数を変更するか解除してください",
               "被 CUDA_VISIBLE_DEVICES={0} 排除在外。如需使用，请修改或取消该变量"},
    [TEXT_PROBLEM + 14] = {"shown for information: this program has no backend for cards of this maker",
                           "참고용 표시: 이 프로그램은 이 제조사의 카드를 지원하지 않습니다",
                           "参考表示: このプログラムはこのメーカーの GPU に対応していません",
                           "仅供参考：本程序不支持该厂商的显卡"},

    /* ---- what holds ---- */
    [TEXT_ON_CPU] = {"Songs are computed on the CPU.", "곡은 CPU로 계산됩니다.", "曲は CPU で計算されます。",
                     "歌曲由 CPU 计算。"},
    [TEXT_ON_CARD] = {"Songs are computed on {0}, {1}.", "곡은 {0}, {1}(으)로 계산됩니다.",
                      "曲は {0}、{1} で計算されます。", "歌曲由 {0}，{1} 计算。"},
    [TEXT_PLUGIN] = {"plug-in for NVIDIA GPUs: {0}", "NVIDIA GPU용 플러그인: {0}", "NVIDIA GPU 用プラグイン: {0}",
                     "NVIDIA 显卡插件：{0}"},
    [TEXT_SIMULATED] =
        {"SIMULATED: {1} asks to believe in a card with {0} GB. What follows is not this machine's.",
         "시뮬레이션: {1} 설정에 따라 {0} GB 카드로 가정합니다. 아래 내용은 이 컴퓨터의 실제 값이 아닙니다.",
         "シミュレーション: {1} により {0} GB の GPU とみなします。以下はこのコンピューターの実際の値では"
         "ありません。",
         "模拟：按 {1} 的设置，假定有一块 {0} GB 的显卡。以下内容不是这台电脑的真实情况。"},
    [TEXT_LIMITS_CPU] = {"Limits of the CPU with {0} GB of memory", "CPU 제한 (메모리 {0} GB)",
                         "CPU の上限(メモリ {0} GB)", "CPU 的限制（内存 {0} GB）"},
    [TEXT_LIMITS_SIMULATED] = {"Limits of {1} ({2}), a simulated card with {0} GB",
                               "{1} 제한 ({2}), 시뮬레이션 카드 {0} GB",
                               "{1} の上限({2})、シミュレーションした GPU {0} GB", "{1}的限制（{2}），模拟显卡 {0} GB"},
    [TEXT_LIMITS_CARD] = {"Limits of {2} ({3}), {0} with {1} GB", "{2} 제한 ({3}), {0} {1} GB",
                          "{2} の上限({3})、{0} {1} GB", "{2}的限制（{3}），{0} {1} GB"},
    [TEXT_CARD_TIER] = {"The tier of {0} ({1} GB), were it used: {2} ({3})", "{0}({1} GB)을 쓸 때의 티어: {2} ({3})",
                        "{0}({1} GB)を使う場合のティア: {2}({3})", "使用 {0}（{1} GB）时的档位：{2}（{3}）"},
    [TEXT_CHOSEN_TIER] = {"Tier chosen by hand: {0}", "직접 선택한 티어: {0}", "手動で選んだティア: {0}",
                          "手动选择的档位：{0}"},
    [TEXT_PROFILE] = {"profile {0}", "프로필 {0}", "プロファイル {0}", "配置 {0}"},
    [TEXT_NOT_MEASURED] = {"its values are promised, not measured with this program",
                           "이 프로그램으로 측정한 값이 아니라 약속된 값입니다",
                           "このプログラムで測定した値ではなく、約束された値です", "其数值是承诺值，并非用本程序测得"},
    [TEXT_FILE_USED] = {"values from {0} replace built-in ones", "{0}의 값이 내장된 값을 대신합니다",
                        "{0} の値が組み込みの値を置き換えています", "{0} 中的值取代了内置的值"},
    [TEXT_MEASURE_HINT] =
        {"acestep tier-test --plan-only shows what every size of memory can do; without --plan-only it is measured.",
         "acestep tier-test --plan-only는 메모리 크기마다 무엇이 가능한지 보여 줍니다. --plan-only 없이 실행하면 "
         "실제로 "
         "측정합니다.",
         "acestep tier-test --plan-only はメモリ容量ごとに何ができるかを示します。--plan-only なしでは実測します。",
         "acestep tier-test --plan-only 显示每种内存容量能做什么；不加 --plan-only 则实际测量。"},

    /* ---- a tier ---- */
    [TEXT_TIER] = {"Tier {0}", "티어 {0}", "ティア {0}", "第 {0} 档"},
    [TEXT_UNLIMITED] = {"Unlimited", "무제한", "無制限", "不受限"},
    [TEXT_FROM] = {"from {0} GB", "{0} GB 이상", "{0} GB 以上", "{0} GB 及以上"},
    [TEXT_ABOVE] = {"above {0} GB", "{0} GB 초과", "{0} GB 超", "超过 {0} GB"},
    [TEXT_BELOW] = {"to below {0} GB", "{0} GB 미만", "{0} GB 未満", "不到 {0} GB"},
    [TEXT_UP_TO] = {"up to {0} GB", "{0} GB 이하", "{0} GB 以下", "不超过 {0} GB"},
    [TEXT_RANGE_JOIN] = {" ", " ", "、", "，"},
    [TEXT_MINUTES] = {"{0} min", "{0}분", "{0} 分", "{0} 分钟"},
    [TEXT_SECONDS] = {"{0} s", "{0}초", "{0} 秒", "{0} 秒"},
    [TEXT_LONGEST] = {"longest song: {0} with the language model, {1} without",
                      "최대 길이: 언어 모델 사용 시 {0}, 미사용 시 {1}", "最長の曲: 言語モデルあり {0}、なし {1}",
                      "最长时长：使用语言模型 {0}，不使用 {1}"},
    [TEXT_LARGEST] = {"songs at a time: {0} with the language model, {1} without",
                      "한 번에 만드는 곡 수: 언어 모델 사용 시 {0}, 미사용 시 {1}",
                      "一度に作れる曲数: 言語モデルあり {0}、なし {1}",
                      "一次生成的歌曲数：使用语言模型 {0}，不使用 {1}"},
    [TEXT_LM_MODELS] = {"language models: {0}", "언어 모델: {0}", "言語モデル: {0}", "语言模型：{0}"},
    [TEXT_NONE] = {"none", "없음", "なし", "无"},
    [TEXT_LM_START] = {"language model started by itself: {0}", "언어 모델 자동 시작: {0}", "言語モデルの自動起動: {0}",
                       "自动启动语言模型：{0}"},
    [TEXT_YES] = {"yes", "예", "はい", "是"},
    [TEXT_NO] = {"no", "아니요", "いいえ", "否"},
    [TEXT_ON] = {"on", "켬", "オン", "开"},
    [TEXT_OFF] = {"off", "끔", "オフ", "关"},
    [TEXT_AUTO] = {"automatic", "자동", "自動", "自动"},
    [TEXT_LM_RECOMMENDED] = {"recommended language model: {0}", "권장 언어 모델: {0}", "おすすめの言語モデル: {0}",
                             "推荐的语言模型：{0}"},
    [TEXT_LM_SHARE] = {"memory for the language model: {0}", "언어 모델에 할당하는 메모리: {0}",
                       "言語モデルに割り当てるメモリ: {0}", "分配给语言模型的内存：{0}"},
    [TEXT_NO_LIMIT] = {"no limit", "제한 없음", "制限なし", "无限制"},
    [TEXT_OPTIONS] = {"flash attention {0}, CPU offload {1}, compile {2}, quantization {3}",
                      "플래시 어텐션 {0}, CPU 오프로드 {1}, 컴파일 {2}, 양자화 {3}",
                      "Flash Attention {0}、CPU オフロード {1}、コンパイル {2}、量子化 {3}",
                      "Flash Attention {0}，CPU 卸载 {1}，编译 {2}，量化 {3}"},
    [TEXT_ORIGIN + 0] = {"set by the tier", "티어가 정한 값", "ティアによる設定", "由档位设定"},
    [TEXT_ORIGIN + 1] = {"set by your tier file", "사용자 티어 파일의 값", "ユーザーのティアファイルによる設定",
                         "由您的档位文件设定"},
    [TEXT_ORIGIN + 2] = {"set in the environment", "환경 변수의 값", "環境変数による設定", "由环境变量设定"},
    [TEXT_ORIGIN + 3] = {"set by you", "사용자가 정한 값", "ユーザーによる設定", "由您设定"},
    [TEXT_PLAN_DECIDES] =
        {"No tier limits songs on the CPU: what fits is decided by the plan of their memory (acestep "
         "plan).",
         "CPU에서 만드는 곡에는 티어 제한이 없습니다. 메모리 계획이 가능 여부를 정합니다(acestep plan).",
         "CPU で作る曲にティアの上限はありません。収まるかどうかはメモリ計画が決めます(acestep plan)。",
         "在 CPU 上生成歌曲不受档位限制，能否运行由内存计划决定（acestep plan）。"},
    [TEXT_WHAT_IS_AUTOMATIC] =
        {"Offload is automatic: weights are unloaded and streamed where memory is short. Weights are quantized only "
         "when "
         "you ask for it (--quantization int8), because that changes the song.",
         "오프로드는 자동입니다. 메모리가 부족하면 가중치를 내리거나 나누어 읽습니다. 양자화는 곡을 바꾸므로 요청할 "
         "때만 "
         "합니다(--quantization int8).",
         "オフロードは自動です。メモリが足りないときは重みを解放したり少しずつ読み込んだりします。量子化は曲が変わるた"
         "め、"
         "指定したときだけ行います(--quantization int8)。",
         "卸载是自动的：内存不足时会卸载权重或分批读取。量化会改变歌曲，因此只在您要求时进行（--quantization int8）。"},
    [TEXT_ADVICE_LINE] = {"Advice: {0}", "조언: {0}", "アドバイス: {0}", "建议：{0}"},
    [TEXT_ADVICE + 0] = {"Use the diffusion model alone, without the language model; that allows the longest "
                         "songs.",
                         "언어 모델 없이 확산 모델만 사용하면 가장 긴 곡을 만들 수 있습니다.",
                         "言語モデルを使わず拡散モデルだけにすると、最も長い曲を作れます。",
                         "只用扩散模型，不启用语言模型，这样可以生成最长的歌曲。"},
    [TEXT_ADVICE + 1] = {"The 0.6B language model is the best balance of quality and memory.",
                         "0.6B 언어 모델이 품질과 메모리의 균형이 가장 좋습니다.",
                         "0.6B の言語モデルが品質とメモリのバランスに最も優れています。",
                         "0.6B 语言模型在质量与内存之间最为均衡。"},
    [TEXT_ADVICE + 2] = {"A larger language model (1.7B or 4B) understands music better and gives better "
                         "songs.",
                         "더 큰 언어 모델(1.7B 또는 4B)을 쓰면 음악을 더 잘 이해하고 곡의 품질도 좋아집니다.",
                         "より大きな言語モデル(1.7B または 4B)を使うと、音楽の理解も曲の品質も向上します。",
                         "使用更大的语言模型（1.7B 或 4B），对音乐的理解更好，歌曲质量也更高。"},

    /* ---- tables ---- */
    [TEXT_HEAD_TIER] = {"Tier", "티어", "ティア", "档位"},
    [TEXT_HEAD_MEMORY] = {"Memory", "메모리", "メモリ", "显存"},
    [TEXT_HEAD_LM] = {"Language models", "언어 모델", "言語モデル", "语言模型"},
    [TEXT_HEAD_START] = {"Started by itself", "자동 시작", "自動起動", "自动启动"},
    [TEXT_HEAD_DURATION] = {"Longest song, with / without language model", "최대 길이 (언어 모델 사용 / 미사용)",
                            "最長の曲(言語モデルあり / なし)", "最长时长（使用 / 不使用语言模型）"},
    [TEXT_HEAD_BATCH] = {"Songs at a time, with / without", "한 번에 만드는 곡 수 (사용 / 미사용)",
                         "一度に作れる曲数(あり / なし)", "一次生成的歌曲数（使用 / 不使用）"},
    [TEXT_HEAD_SHARE] = {"Memory for the language model", "언어 모델 메모리", "言語モデル用メモリ", "语言模型内存"},
    [TEXT_HEAD_ADVICE] = {"Advice", "조언", "アドバイス", "建议"},
};

const char *texts_get(texts_language language, texts_key key)
{
    return table[key][language];
}

void texts_add(ace_text *out, texts_language language, texts_key key, ...)
{
    enum { VALUES = 5 };
    const char *values[VALUES] = {0};
    va_list arguments;
    va_start(arguments, key);
    for (int i = 0; i < VALUES; i++)
        if (!(values[i] = va_arg(arguments, const char *))) break;
    va_end(arguments);
    for (const char *p = table[key][language]; *p; p++) {
        int index = p[0] == '{' && p[1] >= '0' && p[1] < '0' + VALUES && p[2] == '}' ? p[1] - '0' : -1;
        if (index < 0) {
            ace_text_bytes(out, p, 1);
        } else {
            ace_text_add(out, values[index] ? values[index] : "");
            p += 2;
        }
    }
}

bool texts_find_language(const char *name, texts_language *language)
{
    static const char codes[TEXTS_LANGUAGES][3] = {"en", "ko", "ja", "zh"};
    for (int i = 0; i < TEXTS_LANGUAGES; i++) {
        if (strncasecmp(name, codes[i], 2) != 0 || !strchr("_-.@", name[2])) continue;
        *language = (texts_language)i;
        return true;
    }
    return false;
}

texts_language texts_language_of(const char *(*variable)(const char *name))
{
    static const char *const names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
    const char *locale = NULL;
    for (int i = 0; i < 3 && !(locale && *locale); i++) locale = variable(names[i]);
    texts_language language = TEXTS_EN;
    if (!locale || !texts_find_language(locale, &language)) return TEXTS_EN;
    const char *charset = strchr(locale, '.');
    bool utf8 = !charset || strncasecmp(charset, ".utf-8", 6) == 0 || strncasecmp(charset, ".utf8", 5) == 0;
    return utf8 ? language : TEXTS_EN;
}
