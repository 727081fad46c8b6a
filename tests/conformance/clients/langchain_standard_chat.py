from langchain_standard import Standard, main


class TestChatCompletions(Standard):
    supports_audio_inputs = True


if __name__ == "__main__":
    main(__file__)
