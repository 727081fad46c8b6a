from langchain_standard import Standard, main

TEXT_ONLY = "A tool's message in chat completions holds text only."


class TestChatCompletions(Standard):
    supports_audio_inputs = True


if __name__ == "__main__":
    main(__file__, test_image_tool_message=TEXT_ONLY, test_pdf_tool_message=TEXT_ONLY)
